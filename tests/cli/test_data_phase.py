"""Tokenizing, and other trainers' worker processes, from the command line."""

import pytest

BASE = ("estimate", "--model", "tinyllama", "--ram", "8G")


def phase(document, name="tokenizing"):
    return next(phase for phase in (*document["phases"], *document["other_phases"]) if phase["name"] == name)


def test_a_data_set_is_supposed_until_one_is_named(lplan):
    usual, large = lplan(*BASE, "--json").document, lplan(*BASE, "--samples", "1000000", "--json").document
    assert usual["texts"] is None
    assert any("10,000 sequences" in line for line in usual["assumptions"])
    assert large["texts"]["samples"] == 1_000_000
    assert not any("10,000 sequences" in line for line in large["assumptions"])
    assert phase(large)["peak"]["expected_bytes"] > phase(usual)["peak"]["expected_bytes"] + 5 * 990_000 * 512


def test_a_data_set_that_cannot_be_tokenized_in_the_budget_is_told_of(lplan):
    result = lplan(*BASE, "--samples", "4000000")
    assert result.status == 0
    assert "tokenizing" in result.out
    assert "while tokenizing the data" in result.out
    assert "over the budget" in result.out


def test_a_plan_knows_its_data(lplan, model, data):
    document = lplan("plan", "--model", model, "--data", data, "--ram", "2G", "--json").document["estimate"]
    assert document["texts"]["samples"] > 0
    assert phase(document)["fits"]
    assert not any("10,000 sequences" in line for line in document["assumptions"])


@pytest.mark.parametrize(
    ("words", "name", "line"),
    [
        (("--tokenizing-workers", "4"), "tokenizing", "4 forks of the process tokenize"),
        (("--loader-workers", "3"), "steady step", "3 forks of the process make batches"),
    ],
)
def test_workers_cost_memory_and_no_plan_has_any(lplan, words, name, line):
    without, document = (lplan(*BASE, *more, "--json").document for more in ((), words))
    assert (
        phase(document, name)["peak"]["expected_bytes"]
        > phase(without, name)["peak"]["expected_bytes"] + 10**7
    )
    assert any(line in assumption for assumption in document["assumptions"])
    refused = lplan("plan", *BASE[1:], *words)
    assert refused.status == 2
    error, hint = refused.complaint()
    assert "no worker processes" in error
    assert "lplan estimate" in hint


@pytest.mark.parametrize("command", ["plan", "fit-and-train"])
def test_that_is_said_before_any_data_is_looked_for(lplan, command):
    result = lplan(command, "--model", "tinyllama", "--data", "nope.csv", "--loader-workers", "2")
    assert (result.status, result.out) == (2, "")
    assert "no worker processes" in result.complaint()[0]
