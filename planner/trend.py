"""Whether a run is about to reach its limit: said once, while there is time."""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import correlation, linear_regression

from ..profiles.units import format_size, gib
from .events import Sample

_SHARE = 0.97
_HORIZON_S = 60.0
_POINTS = 8
_LEAST_SPAN_S = 1.0
_CORRELATION = 0.9


@dataclass(kw_only=True, slots=True)
class Trend:
    """Follows what a limit counts: anonymous memory and swap, or the GPU's.

    Within a step memory swings, so the trend is that of the steps' peaks, at least a second apart: a line
    through the last eight that reaches the limit within a minute, of steps that are above the plan already.
    """

    limit_bytes: int
    planned_bytes: int
    of_gpu: bool = False
    """Whether it is a GPU's limit: then samples that don't know its use say nothing."""
    _highest_bytes: int = 0
    _peaks: list[tuple[float, int]] = field(default_factory=list)
    _said: bool = False

    def sample(self, sample: Sample) -> str | None:
        """A sentence when 97 % of the limit are passed for the first time."""
        used_bytes = sample.anonymous_bytes + sample.swap_bytes
        if self.of_gpu:
            used_bytes = sample.device_bytes or 0
        self._highest_bytes = max(self._highest_bytes, used_bytes)
        if used_bytes <= _SHARE * self.limit_bytes:
            return None
        return self._once(f"memory is nearly used up: {gib(used_bytes)} of {format_size(self.limit_bytes)}")

    def step(self, t_s: float) -> str | None:
        """An optimizer step ends; a sentence when the steps lead to the limit."""
        if not self._highest_bytes or (self._peaks and t_s - self._peaks[-1][0] < _LEAST_SPAN_S):
            return None
        self._peaks = [*self._peaks[1 - _POINTS :], (t_s, self._highest_bytes)]
        self._highest_bytes = 0
        left_s = self._left_s()
        if left_s is None or left_s > _HORIZON_S:
            return None
        limit = format_size(self.limit_bytes)
        return self._once(
            f"memory grows from step to step: the limit of {limit} is reached in about {left_s:.0f} s"
        )

    def _left_s(self) -> float | None:
        times, peaks = zip(*self._peaks, strict=True)
        if len(peaks) < _POINTS or peaks[-1] <= self.planned_bytes or len(set(peaks)) == 1:
            return None
        slope: float = linear_regression(times, peaks).slope
        if slope <= 0 or correlation(times, peaks) < _CORRELATION:
            return None
        left_s: float = (self.limit_bytes - peaks[-1]) / slope
        return max(0.0, left_s)

    def _once(self, text: str) -> str | None:
        if self._said:
            return None
        self._said = True
        return text
