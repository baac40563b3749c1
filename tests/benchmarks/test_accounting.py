"""Every collected measurement is scored, or named with the reason why not."""

from __future__ import annotations

import json

import pytest

from lplan.benchmarks.accounting import NOT, OTHER, STOCK, counts, published_reason, stored
from lplan.benchmarks.machine_info import RESULTS
from lplan.benchmarks.truth import every_row

COLLECTED = {"t4.jsonl": 67, "published.jsonl": 352, "metamathqa.jsonl": 4}


@pytest.mark.parametrize("file", COLLECTED)
def test_each_row_has_one_class(file):
    names = [name for part in stored()[file] for name in part["rows"]]
    assert len(names) == len(set(names)) == COLLECTED[file]


def test_scored_rows_are_those_that_are_predicted():
    named: dict[str, set[str]] = {STOCK: set(), OTHER: set(), NOT: set()}
    for parts in stored().values():
        for part in parts:
            named[part["class"]] |= set(part["rows"])
            assert part["class"] == STOCK or part["reason"]
    rows = list(every_row())
    assert named[STOCK] == {row.name for row in rows if not row.differs}
    assert named[OTHER] == {row.name for row in rows if row.differs}


def test_the_stored_results_have_the_scored_rows_and_the_counts():
    results = json.loads((RESULTS / "accuracy.json").read_text(encoding="utf-8"))
    assert results["accounting"] == counts()
    assert {row["name"] for row in results["rows"]} == {row.name for row in every_row()}


def test_a_row_that_no_reason_fits_is_not_passed_over():
    row = {
        "id": "made-up", "kind": "train", "num_gpus": 1, "device": "A100", "framework": "plain", "method": "lora",
        "notes": "", "source": "made up", "micro_batch": 1, "seq_len": 8, "quantization": None, "model": "gpt2",
        "kernels": None, "seq_len_kind": "EXACT",
    }  # fmt: skip
    with pytest.raises(StopIteration):
        published_reason(row)
    assert published_reason({**row, "num_gpus": 2}) == "several GPUs, which lplan does not plan for"
