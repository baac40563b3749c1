"""`lplan export`, from the command line."""

from __future__ import annotations

import json

import pytest
import yaml


@pytest.fixture
def plan(lplan, model, data):
    file = lplan.folder / "work" / "plan.json"
    made = lplan("plan", "--model", model, "--data", data, "--ram", "2G", "--output", file)
    assert made.status == 0, made.err
    return file


def test_a_file_with_the_data_beside_it(lplan, plan, model):
    result = lplan(
        "export", "--plan", plan, "--to", "axolotl", "--output", "a.yml", "--messages", "train.jsonl"
    )
    assert (result.status, result.out) == (0, "")
    work = lplan.folder / "work"
    assert yaml.safe_load((work / "a.yml").read_text())["base_model"] == str(model)
    rows = [json.loads(line)["messages"] for line in (work / "train.jsonl").read_text().splitlines()]
    assert len(rows) == json.loads(plan.read_text())["data"]["samples"]
    assert rows[0][-1]["role"] == "assistant"
    priced = lplan("estimate", "--from", "a.yml", "--ram", "2G", "--json")
    recipe, planned = priced.document["recipe"], json.loads(plan.read_text())["recipe"]
    for knob in ("rank", "alpha", "batch_size", "accumulation", "seq_len", "optimizer", "checkpointing"):
        assert recipe[knob] == planned[knob]


def test_what_is_not_in_the_file_goes_to_stderr_and_into_the_document(lplan, plan):
    shown = lplan("export", "--plan", plan, "--to", "deepspeed")
    assert json.loads(shown.out)["train_batch_size"] == 8
    assert "not in the file" in shown.err
    document = lplan("export", "--plan", plan, "--to", "deepspeed", "--json").document
    assert document["schema"] == "lplan.export/1"
    assert document["text"] == shown.out
    assert document["unsaid"]


def test_nothing_is_overwritten(lplan, plan):
    error, hint = lplan("export", "--plan", plan, "--to", "env", "--output", plan).refused(2)
    assert error == f"{plan} exists: it is not overwritten"
    assert "--output" in hint


def test_data_that_changed_is_not_written(lplan, plan, data):
    data.write_text(data.read_text() + "What now?,Nothing.\n")
    error, _ = lplan("export", "--plan", plan, "--to", "env", "--messages", "train.jsonl", "--json").refused(
        1
    )
    assert "has changed since the plan was made" in error


def test_a_file_that_is_no_plan(lplan, data):
    error, _ = lplan("export", "--plan", data, "--to", "env").refused(1)
    assert "is not a plan file" in error
