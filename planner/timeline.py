"""Memory over one training step: what is alive after every birth and death, at full depth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .footprint import Footprint
from .polynomial import Shape, evaluate

STEP = "steady step"


@dataclass(frozen=True, kw_only=True, slots=True)
class Moment:
    """The most that is alive in one stretch of a step, and what the step is doing there."""

    stage: str
    """batch, forward, head (last layer's output to loss and back), backward, optimizer."""
    live_bytes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Timeline:
    """A step cut into stretches of equally many events. `resident_bytes` is alive before the step begins."""

    moments: Sequence[Moment]
    resident_bytes: int

    @property
    def peak_bytes(self) -> int:
        """The most that is ever alive."""
        return max(moment.live_bytes for moment in self.moments)


def timeline(footprint: Footprint, shape: Shape, stretches: int) -> Timeline:
    """The steady step's tensors, in at most `stretches` moments. Process and allocator are not in it."""
    assert footprint.stream is not None
    values = shape.values()
    sizes = [evaluate(s.size, values) if s.on_device else 0 for s in footprint.stream.storages]
    live, resident = 0, None
    points: list[tuple[str, int]] = []
    for phase, stage, _, index, born in footprint.stream.schedule(footprint.extra_units + 1):
        if phase == STEP and resident is None:
            resident = live
        live += sizes[index] if born else -sizes[index]
        if phase == STEP:
            points.append((stage, live))
    each = max(1, -(-len(points) // stretches))
    groups = [points[start : start + each] for start in range(0, len(points), each)]
    moments = [Moment(stage=group[0][0], live_bytes=max(live for _, live in group)) for group in groups]
    return Timeline(moments=moments, resident_bytes=resident or 0)
