"""Whether a GPU's memory has spilled into the system's: the driver does that on Windows, and so under WSL.

Nothing fails then; the steps take several times as long (NVIDIA, "System Memory Fallback for Stable Diffusion", 2023:
with driver 536.40 and later). So it is recognised by time: full memory, and tokens that became slow.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import median

from .events import Metric, Sample

_FULL = 0.95
"""Of the GPU's memory: a driver keeps some back."""
_SLOWER = 3.0
_KNOWN_STEPS = 3
"""Steps before, so that one knows how long they took."""
_SLOW_STEPS = 2
"""In a row: one may have been held up by something else."""


@dataclass(kw_only=True, slots=True)
class Spill:
    """Follows the seconds a token of a run on a GPU with `total_bytes`; the first step, which warms up, is left out."""

    total_bytes: int
    warnings: int = 0
    """How often it was said: a second time if freeing caches has not helped."""
    _used_bytes: int = 0
    _known: list[float] = field(default_factory=list)
    _slow: int = 0

    def sample(self, sample: Sample) -> None:
        """Take in what all processes hold of the GPU."""
        self._used_bytes = sample.device_used_bytes or self._used_bytes

    def step(self, metric: Metric) -> str | None:
        """An optimizer step ends; a sentence when it and the one before were slow, with the GPU's memory full."""
        if not metric.tokens or metric.step_s <= 0 or self.warnings > 1:
            return None
        token_s = metric.step_s / metric.tokens
        usual_s = median(self._known[1:]) if len(self._known) > _KNOWN_STEPS else None
        full = max(self._used_bytes, metric.reserved_bytes or 0) >= _FULL * self.total_bytes
        if usual_s is None or not full or token_s <= _SLOWER * usual_s:
            self._slow = 0
            self._known.append(token_s)
            return None
        self._slow += 1
        if self._slow < _SLOW_STEPS:
            return None
        self._slow, self.warnings = 0, self.warnings + 1
        return (
            f"the GPU's memory is full and a token takes {token_s / usual_s:.1f} times as long as before: "
            f"its driver moves tensors into system memory"
        )
