"""events.jsonl: what a run writes down while it goes. The trainer writes it, the report draws it.

One JSON object a line, always with `t_s` (seconds since the run began) and `kind`. The first line is a
`start` event that carries `schema`. Unknown kinds and keys are skipped by readers, so both may grow.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeAlias

from ..profiles.typed import require_types

SCHEMA = "lplan.events/1"

Verdict = Literal["done", "interrupted", "out-of-memory", "hang", "failed"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Start:
    """The run begins. `limit_bytes` is enforced by `limiter` (cgroup-v1, cgroup-v2, rlimit, watch, none)."""

    kind: ClassVar[str] = "start"
    t_s: float
    schema: str
    run: str
    model: str
    budget_bytes: int
    limiter: str
    planned_peak_bytes: int
    total_steps: int
    time: str
    """ISO 8601 wall-clock time."""

    def continues(self, before: Start) -> bool:
        """Whether this attempt has the plan and the limit of one before it."""
        return (self.planned_peak_bytes, self.budget_bytes) == (
            before.planned_peak_bytes,
            before.budget_bytes,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Phase:
    """The worker enters a phase of `planner.estimate.PHASES`, or rehearses or resumes."""

    kind: ClassVar[str] = "phase"
    t_s: float
    name: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """Memory of the worker's process tree at one instant, and of what surrounds it; None is not known here."""

    kind: ClassVar[str] = "sample"
    t_s: float
    rss_bytes: int
    anonymous_bytes: int
    file_bytes: int
    swap_bytes: int
    cgroup_bytes: int | None = None
    """Charged to its control group, page cache included."""
    limit_hits: int | None = None
    """How often its control group came to the limit so far: the kernel then dropped cache, or killed."""
    pressure_some: float | None = None
    """Percent of the last ten seconds in which some task waited for memory (PSI), in its group or machine."""
    pressure_full: float | None = None
    """Percent of them in which all did."""
    device_bytes: int | None = None
    """What the tree holds of its GPU."""
    device_used_bytes: int | None = None
    """What all processes hold of that GPU."""

    @property
    def used_bytes(self) -> int:
        """What the plan and the budget are about: the GPU's memory in a run on one, else what is resident."""
        return self.rss_bytes if self.device_bytes is None else self.device_bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class PhasePeak:
    """What a phase reached, when it ends: the kernel's own high-water marks where it keeps them."""

    kind: ClassVar[str] = "phase-peak"
    t_s: float
    name: str
    rss_bytes: int
    anonymous_bytes: int
    file_bytes: int
    device_bytes: int | None = None
    """Of a GPU: what the worker's allocator reserved at most, and the context; None on a CPU."""

    @property
    def measured_bytes(self) -> int:
        """What the plan's bytes of this phase are held against."""
        return self.rss_bytes if self.device_bytes is None else self.device_bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class Metric:
    """One optimizer step is done. `tokens` counts this step's tokens without padding."""

    kind: ClassVar[str] = "metric"
    t_s: float
    step: int
    loss: float | None
    learning_rate: float | None
    tokens: int
    step_s: float
    allocated_bytes: int | None = None
    """Tensors on the GPU after the step; None on a CPU."""
    reserved_bytes: int | None = None
    """What PyTorch's allocator keeps of the GPU after the step."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation:
    """Held-out loss after `step`."""

    kind: ClassVar[str] = "evaluation"
    t_s: float
    step: int
    loss: float
    samples: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """What the model answers a held-out request after `step`, at the end of an epoch."""

    kind: ClassVar[str] = "answer"
    t_s: float
    step: int
    request: str
    wanted: str
    text: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Note:
    """A sentence for the reader: a warning, a checkpoint written."""

    kind: ClassVar[str] = "note"
    t_s: float
    text: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """The run ends. `explanation` names what happened; `hint` says what to change."""

    kind: ClassVar[str] = "outcome"
    t_s: float
    verdict: Verdict
    explanation: str
    hint: str | None
    exit_code: int
    phase: str | None
    step: int | None
    had_bytes: int | None = None
    """What there was for a run that died for memory: its limit, or what it held when the machine was full."""
    evidence: str | None = None
    """What was counted and read, in one line."""
    repeats: bool | None = None
    """Whether going on as it was would end the same way."""


Event: TypeAlias = Start | Phase | Sample | PhasePeak | Metric | Evaluation | Answer | Note | Outcome

_KINDS: Mapping[str, type[Event]] = {
    cls.kind: cls for cls in (Start, Phase, Sample, PhasePeak, Metric, Evaluation, Answer, Note, Outcome)
}


def to_line(event: Event) -> str:
    """The event as one line of events.jsonl, newline included. What is optional and unknown is left out."""
    known = {
        name: value for name, value in asdict(event).items() if value is not None or name in _required(event)
    }
    return json.dumps({"kind": event.kind, **known}, separators=(",", ":")) + "\n"


def _required(event: Event) -> set[str]:
    return {field.name for field in fields(event) if field.default is MISSING}


def from_line(line: str) -> Event | None:
    """The event of one line; None for a torn or damaged line, or a kind this version does not know."""
    try:
        data: Any = json.loads(line)
        cls = _KINDS[data.pop("kind")]
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError):
        return None
    known = {name: data[name] for name in cls.__dataclass_fields__ if name in data}
    try:
        event = cls(**known)
        require_types(event)
    except TypeError:
        return None
    return event


def read(path: Path) -> Iterator[Event]:
    """All events of a run folder's events.jsonl, in order, torn last line excluded."""
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            event = from_line(line)
            if event is not None:
                yield event
