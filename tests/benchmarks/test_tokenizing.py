"""What tokenizing holds, against every stored process."""

import json
from dataclasses import asdict
from statistics import mean

from lplan.benchmarks import data_workers, tokenizing
from lplan.benchmarks.fit_data import fit, left_out, loader, workers
from lplan.benchmarks.machine_info import RESULTS
from lplan.benchmarks.real_tokenizers import NAMES
from lplan.planner.constants import constants

STORED = json.loads((RESULTS / f"{tokenizing.NAME}.json").read_text(encoding="utf-8"))["rows"]
FORKED = json.loads((RESULTS / f"{data_workers.NAME}.json").read_text(encoding="utf-8"))["rows"]
ROWS = [row for row in STORED if row["data"] != tokenizing.WHOLE_FILE]


def test_the_stored_processes_are_the_listed_ones():
    assert {(row["tokenizer"], row["data"]) for row in STORED} == {
        (name, data) for name in NAMES for data in tokenizing.DATA
    }


def test_tokenizers_left_out_of_the_fit_are_met_within_a_tenth():
    errors = [error for own in left_out(ROWS).values() for error in own]
    assert mean(map(abs, errors)) <= 0.04
    assert max(map(abs, errors)) <= 0.1


def test_todays_code_predicts_them_as_stored_and_they_lie_in_their_range():
    for row in STORED:
        assert tokenizing.predicted(row) == row
        assert row["low_bytes"] <= row["measured_bytes"] <= row["high_bytes"]


def test_the_costs_in_use_are_those_of_the_stored_processes():
    assert asdict(fit(ROWS)) == constants("data")["costs"]
    assert loader(FORKED) == constants("data")["loader"]
    assert workers(FORKED) == constants("data")["tokenizing_worker"]


def test_loaders_workers_add_what_was_measured():
    """Where a converted model is trained whole, all of its weights; else some ten million bytes each."""
    found = constants("data")["loader"]
    for row in FORKED:
        if row["kind"] == "loader" and row["workers"]:
            expected = found["shared_bytes"] + row["workers"] * found["each_bytes"]
            expected += data_workers.rewritten_bytes(row)
            assert abs(row["added_bytes"] - expected) <= 0.02 * row["held_bytes"]
