"""Whether a run is about to reach its limit: said while there is time, and once more if freeing has not helped."""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import correlation, linear_regression

from ..profiles.units import format_size, gib
from .events import Sample

_SHARE = 0.97
_HORIZON_S = 60.0
_POINTS, _POINTS_AGAIN = 8, 4
"""Steps' peaks that make a trend: at first, and after caches were freed, when there is less time."""
_LEAST_SPAN_S = 1.0
_CORRELATION = 0.9


@dataclass(kw_only=True, slots=True)
class Trend:
    """Follows what a limit counts: anonymous memory and swap, or the GPU's.

    Within a step memory swings, so the trend is that of the steps' peaks, at least a second apart: a line
    through the last eight that reaches the limit within a minute, of steps that are above the plan already.
    After the first warning, four more steps that still lead there are worth a second.
    """

    limit_bytes: int
    planned_bytes: int
    of_gpu: bool = False
    """Whether it is a GPU's limit: then samples that don't know its use say nothing, and one warning is all, as
    PyTorch's allocator frees its caches itself before it fails."""
    warnings: int = 0
    """How often it was said."""
    _highest_bytes: int = 0
    _peaks: list[tuple[float, int]] = field(default_factory=list)

    def sample(self, sample: Sample) -> str | None:
        """A sentence when 97 % of the limit are passed before anything was said."""
        used_bytes = sample.anonymous_bytes + sample.swap_bytes
        if self.of_gpu:
            used_bytes = sample.device_bytes or 0
        self._highest_bytes = max(self._highest_bytes, used_bytes)
        if self.warnings or used_bytes <= _SHARE * self.limit_bytes:
            return None
        return self._warn(f"memory is nearly used up: {gib(used_bytes)} of {format_size(self.limit_bytes)}")

    def step(self, t_s: float) -> str | None:
        """An optimizer step ends; a sentence when the steps lead to the limit."""
        if not self._highest_bytes or (self._peaks and t_s - self._peaks[-1][0] < _LEAST_SPAN_S):
            return None
        self._peaks = [*self._peaks[1 - _POINTS :], (t_s, self._highest_bytes)]
        self._highest_bytes = 0
        if self.warnings > (0 if self.of_gpu else 1):
            return None
        left_s = self._left_s(_POINTS_AGAIN if self.warnings else _POINTS)
        if left_s is None or left_s > _HORIZON_S:
            return None
        limit = format_size(self.limit_bytes)
        return self._warn(
            f"memory grows from step to step: the limit of {limit} is reached in about {left_s:.0f} s"
        )

    def _left_s(self, least: int) -> float | None:
        times, peaks = zip(*self._peaks, strict=True)
        if len(peaks) < least or peaks[-1] <= self.planned_bytes or len(set(peaks)) == 1:
            return None
        slope: float = linear_regression(times, peaks).slope
        if slope <= 0 or correlation(times, peaks) < _CORRELATION:
            return None
        left_s: float = (self.limit_bytes - peaks[-1]) / slope
        return max(0.0, left_s)

    def _warn(self, text: str) -> str:
        self.warnings += 1
        # What was held before caches are freed says nothing about how it goes on.
        self._peaks, self._highest_bytes = [], 0
        return text
