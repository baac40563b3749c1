"""Runs are remembered, listed, and learned from: as a user meets it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lplan.planner.history import RunRecord, remember
from lplan.planner.versions import stack_versions


@pytest.fixture
def record() -> RunRecord:
    import platform

    return RunRecord(
        time="2026-11-24T02:00:00+00:00", folder="runs/a", machine=platform.node(),
        model="org/small-model-135m-instruct-longer",
        verdict="done", versions=dict(stack_versions()),
        recipe={"device": "cpu", "batch_size": 2, "accumulation": 4, "seq_len": 128},
        phases={"load": (600 << 20, 620 << 20), "steady step": (1000 << 20, 1040 << 20)}, offsets={}, steps=10,
        predicted_tokens_per_s=271.0, measured_tokens_per_s=222.0,
    )  # fmt: skip


def test_without_runs_there_is_nothing_to_show(lplan):
    for verb in ("history", "drift"):
        assert "no runs yet" in lplan(verb).out
    error, hint = lplan("calibrate").refused(1)
    assert error.startswith("finished runs on this machine with these versions: 0")
    assert "nothing was changed" in hint


@pytest.mark.parametrize("columns", [80, 120])
def test_history_fits_the_terminal(lplan, record, columns, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(columns))
    remember(record)
    remember(replace(record, verdict="out-of-memory", phases={}, measured_tokens_per_s=None))
    out = lplan("history").out
    assert max(map(len, out.splitlines())) <= columns
    assert "-3.8 %" in out  # 1000 / 1040 - 1
    assert lplan("history", "--json").document["runs"][0]["phases"]["load"] == [600 << 20, 620 << 20]


def test_calibration_changes_estimates_until_it_is_undone(lplan, model, record):
    for _ in range(3):
        remember(record)

    def steady() -> int:
        phases = lplan("estimate", "--model", model, "--json").document["phases"]
        return next(p["peak"]["expected_bytes"] for p in phases if p["name"] == "steady step")

    before = steady()
    assert "kept" in lplan("calibrate").out
    assert steady() - before == 40 << 20
    assert "calibrated on this machine's own runs" in " ".join(
        lplan("estimate", "--model", model).out.split()
    )
    assert lplan("calibrate", "--undo", "--json").document["undone"]
    assert steady() == before


def test_a_named_machine_is_not_calibrated(lplan, model, record):
    words = ("estimate", "--model", model, "--hardware", "cpu-8gb", "--json")
    before = lplan(*words).document["peak"]
    for _ in range(3):
        remember(record)
    lplan("calibrate")
    assert lplan(*words).document["peak"] == before
