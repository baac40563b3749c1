"""What an attempt to run is told, and what it may be followed by."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from ..planner.events import Outcome, PhasePeak


@dataclass(frozen=True, kw_only=True, slots=True)
class RunFacts:
    """What the first event says of the run. `mapped_bytes` are the weight files that the worker maps."""

    model: str
    total_steps: int
    planned_peak_bytes: int
    mapped_bytes: int = 0
    planned_rehearsal_bytes: int = 0
    step_s: float = 0.0
    """Seconds of a step, as planned; 0 where that is not known."""
    device_total_bytes: int | None = None
    """What the GPU has, in a run on one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Retry:
    """How the worker is started once more, and a sentence about it."""

    environment: Mapping[str, str]
    start: RunFacts
    budget_bytes: int
    text: str


Tell: TypeAlias = Callable[[str], object]
"""Says what is going on."""
Recover: TypeAlias = Callable[[Outcome, Tell], "Retry | None"]
"""What comes after a run has ended so; None if that is its end."""
Adjust: TypeAlias = Callable[[PhasePeak], "Retry | None"]
"""What a better start would be, after a rehearsal that needed so much; None if the run goes on as it is."""
