"""What a run folder tells of a run afterwards. Parts that are absent are left out: an older run has fewer."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ..profiles.errors import LplanError, UsageError
from .attempts import attempts_of
from .documents import plan_document, read_plan
from .events import Answer, Evaluation, Event, Metric, Note, Outcome, Phase, PhasePeak, Sample, Start, read
from .plan import Plan

SCHEMA = "lplan.report/1"
_KEPT_SAMPLES = 600
"""Samples of a document: more than a screen's width shows."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunContents:
    """A run as its folder holds it. `evaluation` is evaluation.json, `plan` None where there is no readable plan."""

    folder: Path
    plan: Plan | None
    events: tuple[Event, ...]
    evaluation: Mapping[str, Any] | None

    @property
    def start(self) -> Start | None:
        """When it began, and what its last attempt was held to."""
        starts: list[Start] = self.of(Start)
        return replace(starts[-1], t_s=starts[0].t_s, time=starts[0].time) if starts else None

    @property
    def outcome(self) -> Outcome | None:
        """The last end: a run that was continued has several, and none as yet while it goes on."""
        last = next((event for event in reversed(self.events) if isinstance(event, Start | Outcome)), None)
        return last if isinstance(last, Outcome) else None

    @property
    def peaks(self) -> Mapping[str, PhasePeak]:
        """The highest peak of every phase that ended, of the attempts with the last plan."""
        found: dict[str, PhasePeak] = {}
        start: Start | None = None
        for event in self.events:
            if isinstance(event, Start):
                if start is not None and not event.continues(start):
                    found.clear()
                start = event
            elif isinstance(event, PhasePeak):
                before = found.get(event.name, event)
                found[event.name] = max(before, event, key=lambda peak: peak.measured_bytes)
        return found

    def of(self, kind: type[Any]) -> list[Any]:
        """The events of a kind, in order."""
        return [event for event in self.events if isinstance(event, kind)]


def read_record(folder: Path) -> RunContents:
    """A run folder's record. Raises UsageError where there is no run."""
    events = folder / "events.jsonl"
    if not events.is_file():
        raise UsageError(f"{folder} is no run folder: it has no events.jsonl", hint="name one, as runs/…")
    try:
        found = tuple(read(events))
    except (OSError, UnicodeError) as error:
        raise LplanError(f"cannot read {events}: {error}") from error
    return RunContents(
        folder=folder, plan=_plan(folder), events=found, evaluation=_json(folder / "evaluation.json")
    )


def _plan(folder: Path) -> Plan | None:
    try:
        return read_plan(folder / "plan.json")
    except LplanError:
        return None


def _json(path: Path) -> Mapping[str, Any] | None:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return data if isinstance(data, dict) else None


def record_document(record: RunContents) -> dict[str, Any]:
    """`lplan report --json`, and the data inside a report's page."""
    start, outcome = record.start, record.outcome
    return {
        "schema": SCHEMA,
        "run": record.folder.name,
        "start": None if start is None else asdict(start),
        "outcome": None if outcome is None else asdict(outcome),
        "plan": None if record.plan is None else plan_document(record.plan),
        "measured": [asdict(peak) for peak in record.peaks.values()],
        "phases": [asdict(phase) for phase in record.of(Phase)],
        "samples": [asdict(sample) for sample in _thinned(record.of(Sample))],
        "metrics": [asdict(metric) for metric in record.of(Metric)],
        "evaluations": [asdict(evaluation) for evaluation in record.of(Evaluation)],
        "answers": [asdict(answer) for answer in record.of(Answer)],
        "attempts": [asdict(attempt) for attempt in attempts_of(record.events)],
        "notes": [asdict(note) for note in record.of(Note)],
        "evaluation": record.evaluation,
    }


def _thinned(samples: list[Sample]) -> list[Sample]:
    """At most `_KEPT_SAMPLES`, the highest of every stretch."""
    stretch = -(-len(samples) // _KEPT_SAMPLES) or 1
    return [
        max(samples[begin : begin + stretch], key=lambda sample: sample.used_bytes)
        for begin in range(0, len(samples), stretch)
    ]
