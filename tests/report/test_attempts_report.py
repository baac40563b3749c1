"""A run of several attempts: each has its own end, and only those with the same plan share what was reached."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from lplan.planner.estimate import PhaseEstimate
from lplan.planner.events import Event, Metric, Outcome, PhasePeak, Start, to_line
from lplan.planner.record import read_record, record_document
from lplan.profiles.units import GIB
from lplan.report.live import view_for
from lplan.report.page import phase_rows
from lplan.report.run import run_table
from lplan.report.summary import RunSummary

from .samples import SMOLLM2_2G, run_events

FIRST = next(event for event in run_events() if isinstance(event, Start))
KILLED = Outcome(
    t_s=20.0, verdict="failed", explanation="killed from outside", hint=None, exit_code=1, phase=None, step=7
)
SMALLER = replace(FIRST, planned_peak_bytes=FIRST.planned_peak_bytes // 2)


def peak(name: str, gib: float) -> PhasePeak:
    size = int(gib * GIB)
    return PhasePeak(t_s=9.0, name=name, rss_bytes=size, anonymous_bytes=size, file_bytes=0)


def step(number: int, t_s: float) -> Metric:
    return Metric(t_s=t_s, step=number, loss=1.0, learning_rate=1e-4, tokens=64, step_s=1.0)


def two_attempts(second: Start) -> list[Event]:
    before = [FIRST, peak("load", 1.0), peak("first step", 1.5), step(6, 10.0), step(7, 11.0), KILLED]
    return [*before, replace(second, t_s=100.0), peak("load", 0.9), step(8, 110.0)]


def record(folder: Path, events: list[Event]):
    folder.mkdir()
    (folder / "events.jsonl").write_text("".join(map(to_line, events)))
    return read_record(folder)


@pytest.mark.parametrize(
    ("second", "reached"),
    [
        pytest.param(FIRST, {"load": 1.0, "first step": 1.5}, id="the same plan"),
        pytest.param(SMALLER, {"load": 0.9}, id="another plan"),
        pytest.param(replace(FIRST, budget_bytes=FIRST.budget_bytes // 2), {"load": 0.9}, id="another limit"),
    ],
)
def test_what_another_plan_reached_is_not_held_against_this_one(tmp_path, second, reached):
    events = two_attempts(second)
    summary = RunSummary.from_events(events)
    assert {name: size / GIB for name, size in summary.reached.items()} == pytest.approx(reached)
    told = record(tmp_path / "run", events)
    found = {name: peak.measured_bytes / GIB for name, peak in told.peaks.items()}
    assert found == pytest.approx(reached)


def test_a_run_that_goes_on_has_not_ended_yet(tmp_path):
    events = two_attempts(SMALLER)
    assert RunSummary.from_events(events).outcome is None
    told = record(tmp_path / "run", events)
    assert told.outcome is None
    assert told.start == replace(SMALLER, t_s=FIRST.t_s, time=FIRST.time)
    ended = record(tmp_path / "ended", [*events, KILLED])
    assert ended.outcome == KILLED


def test_the_pace_of_a_resumed_run_does_not_count_the_time_between():
    summary = RunSummary.from_events([*two_attempts(FIRST), step(9, 112.0)])
    assert summary.left_s == pytest.approx(2.0 * (FIRST.total_steps - 9))


def test_the_live_view_of_a_resumed_run_begins_where_it_left_off():
    out = Console(file=io.StringIO(), force_terminal=True, width=100, height=30)
    with view_for(out, SMOLLM2_2G, past=two_attempts(FIRST)[:-3]) as view:
        view.handle(replace(FIRST, t_s=100.0))
    text = out.file.getvalue()
    assert f"step 7 of {FIRST.total_steps}" in text
    assert "killed from outside" not in text.rpartition("step 7 of")[2]


def test_the_live_view_shows_the_plan_of_the_last_attempt():
    out = Console(file=io.StringIO(), force_terminal=True, width=120, height=40)
    lean = replace(SMOLLM2_2G, phases=tuple(at(phase, 0.37) for phase in SMOLLM2_2G.phases))
    with view_for(out, SMOLLM2_2G) as view:
        view.handle(FIRST)
        view.plan(lean)
        view.handle(KILLED)
    last = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", out.file.getvalue().rpartition("planned")[2])
    assert last.split()[:2] == ["0.37", "0.37"]


def at(phase: PhaseEstimate, gib: float, name: str | None = None) -> PhaseEstimate:
    size = int(gib * GIB)
    there = replace(phase.peak, low_bytes=size - 1, expected_bytes=size, high_bytes=size + 1)
    return replace(phase, name=name or phase.name, peak=there, components={"weights": size})


def test_resuming_is_held_against_its_plan(render, tmp_path):
    resume = at(SMOLLM2_2G.phases[0], 0.5, "resume")
    estimate = replace(SMOLLM2_2G, other_phases=(resume,))
    shown = render(run_table(estimate, [peak("resume", 0.4)], None), width=120)
    (line,) = [line for line in shown.splitlines() if line.startswith("resume")]
    assert line.split()[1:4] == ["0.50", "0.50–0.50", "0.40"]
    assert "resume" not in render(run_table(estimate, [peak("load", 1.0)], None), width=120)
    document = record_document(record(tmp_path / "run", [FIRST, peak("resume", 0.4)]))
    other = {"name": "resume", "peak": {"low_bytes": 1, "expected_bytes": GIB // 2, "high_bytes": GIB}}
    document["plan"] = {"estimate": {"phases": [], "other_phases": [other]}}
    (row,) = phase_rows(document)
    assert (row["phase"], row["predicted"], row["measured"]) == ("resume", "0.50", "0.40")
