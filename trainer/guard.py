"""What is seen to go wrong while a run goes, and what its worker is then asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ..planner.events import Event, Metric, Phase, Sample
from ..planner.spill import Spill
from ..planner.trend import Trend

_STEPS = "steady step"
"""The phase in which a step's time is known; what others take is not."""
_ELSEWHERE = 4.0
"""How much longer one waits in the other phases."""
_MOST_TICK_S = 2.0
"""What counts of the time between two looks: a longer gap means that this process was not running either (a
laptop asleep, a frozen container, a clock that was set)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Alarm:
    """What is about to happen, and what the worker is to do."""

    text: str
    act: Literal["free caches", "leave"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Patience:
    """How long a worker may be silent: so many of its longest steps, and at least so many seconds."""

    least_s: float = 900.0
    steps: float = 30.0


class Guard:
    """Follows a run's events: memory that leads to the limit, a GPU that spills, a worker that hangs."""

    def __init__(
        self,
        *,
        limit_bytes: int,
        planned_bytes: int,
        step_s: float,
        device_total_bytes: int | None,
        patience: Patience,
    ) -> None:
        self._trend = Trend(limit_bytes=limit_bytes, planned_bytes=planned_bytes)
        self._spill = None if device_total_bytes is None else Spill(total_bytes=device_total_bytes)
        self._patience = patience
        self._longest_s = step_s
        self._phase: str | None = None
        self._looked_s: float | None = None
        self.silent_s = 0.0
        """Since the worker was last heard of, as far as this process was running."""

    def of_gpu(self) -> None:
        """The limit is a GPU's."""
        self._trend.of_gpu = True

    def sample(self, sample: Sample) -> Alarm | None:
        """Take in a sample of memory."""
        if self._spill is not None:
            self._spill.sample(sample)
        return _alarm(self._trend.sample(sample), self._trend.warnings)

    def event(self, event: Event) -> Alarm | None:
        """Take in what the worker tells: any word is a sign of life."""
        self.silent_s = 0.0
        if isinstance(event, Phase):
            self._phase = event.name
        if not isinstance(event, Metric):
            return None
        self._longest_s = max(self._longest_s, event.step_s)
        spilled = None if self._spill is None else self._spill.step(event)
        if self._spill is not None and spilled:
            return _alarm(spilled, self._spill.warnings)
        return _alarm(self._trend.step(event.t_s), self._trend.warnings)

    def hangs(self, now_s: float, *, counts: bool = True) -> bool:
        """Whether the worker has been silent for too long; to be asked often. `counts`: whether it may run at all.

        Never before anything is known of how long its steps take.
        """
        if self._looked_s is not None and counts:
            self.silent_s += min(max(0.0, now_s - self._looked_s), _MOST_TICK_S)
        self._looked_s = now_s
        if not self._longest_s:
            return False
        allowed_s = max(self._patience.least_s, self._patience.steps * self._longest_s)
        return self.silent_s > allowed_s * (1 if self._phase == _STEPS else _ELSEWHERE)


def _alarm(text: str | None, warnings: int) -> Alarm | None:
    if text is None:
        return None
    return Alarm(text=text, act="free caches" if warnings == 1 else "leave")
