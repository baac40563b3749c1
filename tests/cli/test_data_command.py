"""`lplan data`, from the command line."""

from __future__ import annotations

from command_line import QUESTIONS, write_csv


def findings(result):
    return {finding["check"]: finding for finding in result.document["findings"]}


def test_the_built_in_set_is_looked_at_with_its_task(lplan, model, traced):
    result = lplan("data", "demo", "--model", model, "--json")
    assert result.status == 0
    document = result.document
    assert (document["schema"], document["task"]) == ("lplan.data/1", "banking77")
    assert sum(document["splits"].values()) == 308
    assert len(document["labels"]) == 77
    assert findings(result)["few-per-label"]["count"] == 77  # four of each: fewer than 50
    assert 0 <= document["worst_batches"][0]["seq_len"] - document["percentiles"]["100"] < 128
    assert traced == []
    assert result.after == result.before


def test_findings_are_warnings(lplan, model):
    folder = lplan.folder / "splits"
    folder.mkdir()
    write_csv(folder / "train.csv", [*QUESTIONS, QUESTIONS[0], ("what is 1 plus 1 please", "It is three.")])
    write_csv(folder / "test.csv", [QUESTIONS[3], ("Who are you?", "A bank.")])
    write_csv(folder / "validation.csv", [("Unseen?", "Yes.")])
    result = lplan("data", folder, "--model", model, "--json")
    found = findings(result)
    assert result.status == 0
    assert found["duplicates"]["count"] == 1
    assert found["contradictions"]["count"] == 1
    assert found["leakage"]["text"].startswith("requests of test")
    assert found["leakage"]["count"] == 1
    assert found["chat-template"]["reason"]
    assert result.document["labels"] == []


def test_what_a_length_leaves_out_is_told(lplan, model, data):
    result = lplan("data", data, "--model", model, "--seq-len", "24", "--json")
    assert findings(result)["truncated"]["count"] > 0
    assert result.document["percentiles"]["100"] <= 24


def test_data_that_cannot_be_trained_on_is_an_error(lplan, model, data):
    error, hint = lplan("data", data, "--model", model, "--seq-len", "2").refused(1)
    assert error == "no token carries loss: every label is masked"
    assert "length 2 " in hint
    error, _ = lplan("data", "nowhere.csv", "--model", model).refused(2)
    assert error == "there is no file or folder nowhere.csv"


def test_the_table_says_the_same(lplan, model):
    result = lplan("data", "demo", "--model", model)
    assert result.status == 0
    for words in ("tokens a sequence", "77 labels", "the worst batch", "labels with fewer than 50"):
        assert words in result.out
