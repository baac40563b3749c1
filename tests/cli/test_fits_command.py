"""`lplan fits`: by model, by machine, and with nothing to go by."""

from lplan.profiles.catalogue import catalogue


def test_models_on_a_machine(lplan):
    document = lplan("fits", "--hardware", "cpu-8gb", "--json").document
    assert document["schema"] == "lplan.fits/1"
    rows = document["rows"]
    assert [row["model"] for row in rows] == [model.id for model in catalogue().values()]
    assert {row["machine"] for row in rows} == {"cpu-8gb"}
    for row in rows:
        assert row["fits"] == (row["recipe"] is not None) == (row["why_not"] is None)
        assert row["fits"] == ((row["chance"] or 0) > 0.97)
        assert not row["fits"] or row["required_bytes"] <= row["budget_bytes"]
    assert any(row["fits"] for row in rows)
    # 72 billion parameters in 16 bits are 134 GiB.
    assert not any(row["fits"] for row in rows if "72B" in row["model"])


def test_a_model_on_a_budget(lplan, model):
    (row,) = lplan("fits", "--model", model, "--ram", "2G", "--safety", "1G", "--json").document["rows"]
    assert row["budget_bytes"] == 2**30
    assert row["fits"]
    assert "fits" in lplan("fits", "--model", model, "--ram", "2G").out


def test_what_should_fit_where(lplan):
    message, hint = lplan("fits").refused(2)
    assert "what should fit" in message
    assert "--hardware" in hint
