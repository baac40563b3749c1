"""The stored table of faults: every fault is in it, none costs more than promised, and the documentation shows it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from lplan.benchmarks.fault_cases import FAULTS

ROOT = Path(__file__).parents[2]
ROW = re.compile(r"^\| (?P<name>[^|]+) \| (?P<lost>all|\d+ of \d+) \| (?P<reads>[^|]+) \|$", re.MULTILINE)


@pytest.fixture(scope="module")
def rows() -> dict[str, dict[str, Any]]:
    stored = json.loads((ROOT / "benchmarks" / "results" / "faults.json").read_text(encoding="utf-8"))
    return {row["fault"]: row for row in stored["rows"]}


def test_every_fault_was_made_and_cost_no_more_than_promised(rows: dict[str, dict[str, Any]]) -> None:
    assert set(rows) == {fault.name for fault in FAULTS}
    for fault in FAULTS:
        row = rows[fault.name]
        assert row["kept"]
        assert row["promised"] == fault.lost
        assert fault.says in row["reads"]
        if fault.goes_on:
            assert row["same"]
            assert row["lost"] <= fault.lost


def test_the_documented_table_is_the_stored_one(rows: dict[str, dict[str, Any]]) -> None:
    documented = {
        row["name"]: row["lost"] for row in ROW.finditer((ROOT / "docs/faults.md").read_text("utf-8"))
    }
    stored = {
        name: "all" if row["lost"] is None else f"{row['lost']} of {row['promised']}"
        for name, row in rows.items()
    }
    assert documented == stored
