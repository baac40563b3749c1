from __future__ import annotations

import json

import pytest

from lplan.planner.events import (
    SCHEMA,
    Evaluation,
    Event,
    Metric,
    Note,
    Outcome,
    Phase,
    PhasePeak,
    Sample,
    Start,
    from_line,
    to_line,
)

EVENTS: list[Event] = [
    Start(
        t_s=0.0, schema=SCHEMA, run="runs/x", model="tiny", budget_bytes=2**31, limiter="cgroup-v2",
        planned_peak_bytes=2**30, total_steps=3, time="2026-11-23T12:00:00+00:00",
    ),
    Phase(t_s=0.5, name="first step"),
    Sample(t_s=1.0, rss_bytes=3, anonymous_bytes=2, file_bytes=1, swap_bytes=0, cgroup_bytes=None),
    PhasePeak(t_s=2.0, name="load", rss_bytes=3, anonymous_bytes=2, file_bytes=1),
    Metric(t_s=3.0, step=1, loss=2.5, learning_rate=None, tokens=100, step_s=0.25),
    Evaluation(t_s=4.0, step=1, loss=2.0, samples=8),
    Note(t_s=5.0, text="a line\nand “another”"),
    Outcome(
        t_s=6.0, verdict="out-of-memory", explanation="killed", hint=None, exit_code=1, phase="load", step=None
    ),
]  # fmt: skip


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.kind)
def test_an_event_survives_its_line(event: Event) -> None:
    line = to_line(event)
    assert line.count("\n") == 1
    assert line.endswith("\n")
    assert json.loads(line)["kind"] == event.kind
    assert from_line(line) == event


def test_a_key_of_a_later_version_is_skipped() -> None:
    event = Phase(t_s=1.0, name="load")
    line = json.dumps({**json.loads(to_line(event)), "colour": "red"})
    assert from_line(line) == event


@pytest.mark.parametrize(
    "line",
    [
        "",
        "\n",
        '{"kind":"phase","t_s":1.0,"na',
        '{"kind":"weather","t_s":1.0}',
        '{"t_s":1.0}',
        "[]",
        "null",
        '{"kind":"phase"}',
    ],
)
def test_a_line_that_cannot_be_read_is_none(line: str) -> None:
    assert from_line(line) is None
