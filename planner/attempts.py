"""The attempts of a run, as its record tells them: a run that was continued, or recovered, has several."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from .events import Event, Metric, Note, Outcome, PhasePeak, Sample, Start


@dataclass(frozen=True, kw_only=True, slots=True)
class Attempt:
    """From one start of a worker to its end, with the steps that it trained."""

    t_s: float
    planned_peak_bytes: int
    budget_bytes: int
    measured_peak_bytes: int | None
    """None where it ended before it was measured."""
    first_step: int | None
    last_step: int | None
    repeated: int
    """Steps of attempts before that were lost with them, and done again here."""
    ended: str
    """What is said of its end; empty while it goes on."""


def attempts_of(events: Iterable[Event]) -> tuple[Attempt, ...]:
    """Every attempt, in order. A start whose end nobody told was killed with its supervisor."""
    found: list[Attempt] = []
    reached = 0
    for part in _parts(events):
        start = part[0]
        assert isinstance(start, Start)
        steps = [event.step for event in part if isinstance(event, Metric)]
        used = [event.measured_bytes for event in part if isinstance(event, PhasePeak)]
        used += [event.used_bytes for event in part if isinstance(event, Sample)]
        found.append(
            Attempt(
                t_s=start.t_s,
                planned_peak_bytes=start.planned_peak_bytes,
                budget_bytes=start.budget_bytes,
                measured_peak_bytes=max(used, default=None),
                first_step=min(steps, default=None),
                last_step=max(steps, default=None),
                repeated=sum(step <= reached for step in steps),
                ended=_end(part),
            )
        )
        reached = max([reached, *steps])
    return tuple(found)


def _parts(events: Iterable[Event]) -> Iterator[list[Event]]:
    """The events from each start to the next."""
    part: list[Event] = []
    for event in events:
        if isinstance(event, Start):
            if part:
                yield part
            part = []
        if part or isinstance(event, Start):
            part.append(event)
    if part:
        yield part


def _end(part: list[Event]) -> str:
    """The outcome, or where a smaller plan followed, the note about it: the last word before the next start."""
    outcome = next((event for event in reversed(part) if isinstance(event, Outcome)), None)
    if outcome is not None:
        return outcome.explanation
    last = part[-1]
    return last.text if isinstance(last, Note) else ""
