"""`--json`: one document on stdout, talk on stderr, the keys that others script against."""

import pytest

from lplan.planner.recipe import Recipe
from lplan.profiles.catalogue import catalogue


@pytest.mark.parametrize(
    "words",
    [
        ("models",),
        ("doctor",),
        ("doctor", "--hardware", "t4"),
        ("estimate", "--model", "tinyllama", "--ram", "8G"),
        ("plan", "--model", "tinyllama", "--ram", "8G"),
    ],
)
def test_stdout_is_one_document_and_nothing_else(lplan, words):
    result = lplan(*words, "--json")
    assert (result.status, result.err) == (0, "")
    assert result.document["schema"] == f"lplan.{words[0]}/1"
    assert result.out.count('"schema": "lplan.' + words[0]) == 1


def test_an_estimate(lplan):
    document = lplan("estimate", "--model", "tinyllama", "--ram", "8G", "--rank", "4", "--json").document
    assert document["model"]["id"] == "TinyLlama/TinyLlama-1.1B-Chat-v1.0"
    assert document["recipe"].keys() == Recipe().to_dict().keys()
    assert document["recipe"]["rank"] == 4
    assert document["hardware"]["budget_bytes"] == 8 * 2**30
    assert document["fits"] is True
    assert any("taken by default" in line and "rank" not in line for line in document["assumptions"])


def test_a_configuration_that_does_not_fit(lplan):
    result = lplan("estimate", "--model", "tinyllama", "--ram", "500M", "--json")
    assert (result.status, result.document["fits"]) == (3, False)
    error, hint = result.complaint()
    assert "the budget is 0.49 GiB" in error
    assert "lplan plan" in hint


def test_a_plan_that_does_not_fit(lplan, model, data):
    words = ("plan", "--model", model, "--data", data, "--ram", "420M")
    result = lplan(*words, "--json")
    assert (result.status, result.document["estimate"]["fits"]) == (3, False)
    error, hint = result.complaint()
    assert error.startswith("no plan fits 0.41 GiB: the closest misses by ")
    assert hint.startswith("it would take a budget of ")
    budget = hint.rpartition(" ")[2]
    assert lplan(*words, "--ram", budget).status == 0


def test_the_document_is_the_file(lplan, model, data, tmp_path):
    path = tmp_path / "plan.json"
    result = lplan("plan", "--model", model, "--data", data, "--ram", "2G", "--json", "--output", path)
    assert path.read_text() == result.out


def test_a_plan_names_its_data_and_its_steps(lplan, model, data):
    document = lplan(
        "plan", "--model", model, "--data", data, "--ram", "2G", "--json", "--max-steps", "30"
    ).document
    assert document["data"]["location"] == str(data)
    assert (document["time"]["steps"], document["schedule"]["max_steps"]) == (30, 30)
    assert document["schedule"]["warmup_steps"] == 3
    given = {d["knob"]: d["given"] for d in document["decisions"]}
    assert given["steps"]
    assert not given["warm-up steps"]


def test_models(lplan):
    rows = lplan("models", "--json").document["models"]
    assert [row["alias"] for row in rows] == list(catalogue())
    assert all(row.keys() == {"alias", "id", "parameters"} for row in rows)


def test_doctor(lplan):
    document = lplan("doctor", "--ram", "3G", "--json").document
    assert document["budget"]["budget_bytes"] == 3 * 2**30
    assert {"hardware", "limits", "enforcement", "versions"} <= document.keys()


def test_without_arguments_there_is_help(lplan):
    result = lplan()
    assert (result.status, result.err) == (0, "")
    assert "fit-and-train" in result.out
    assert lplan("--help").out == lplan("-h").out == result.out


@pytest.mark.parametrize("columns", [80, 120])
def test_tables_stay_within_the_terminal(lplan, model, data, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    for words in (
        ("plan", "--model", model, "--data", data, "--ram", "2G"),
        ("plan", "--model", model, "--data", data, "--ram", "420M"),
        ("estimate", "--model", "tinyllama", "--ram", "8G"),
    ):
        lines = lplan(*words).out.splitlines()
        assert max(len(line) for line in lines) <= columns
