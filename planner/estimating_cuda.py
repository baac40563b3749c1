"""From a footprint to an estimate on a GPU: what is allocated, what is reserved for it, and the process around."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..profiles.hardware import Gpu
from .caching_allocator import CachingAllocator, OutOfMemoryError
from .cuda import context_bytes, surroundings
from .estimate import COMPONENTS, PHASES, ByteRange, CudaBytes, PhaseEstimate
from .footprint import Footprint
from .gathering import gathering
from .polynomial import Shape
from .recipe import Recipe
from .residuals import residuals
from .simulation import CudaPeak, simulate

SLACK = "allocator slack"


@dataclass(frozen=True, kw_only=True, slots=True)
class CudaRun:
    """One recipe on one GPU with so many bytes for the whole process."""

    recipe: Recipe
    footprint: Footprint
    shape: Shape
    gpu: Gpu
    budget_bytes: int

    def phases(self) -> tuple[PhaseEstimate, ...]:
        """Every phase's process memory on the device.

        PyTorch gives its cache back before it gives up, so what it reserves bends to what there is: within the
        budget if it can, as if there were no end otherwise.
        """
        context = context_bytes(self.gpu)
        limit = self.budget_bytes - context
        margin = residuals(self.recipe, self.gpu).spread()
        cautious = margin.within(limit + context) - context
        fits = self._simulated(cautious)
        peaks = fits or self._simulated(limit) or self._without_end()
        return tuple(
            self._phase(name, peaks.get(_SAME_AS.get(name, name)), context, fits is not None)
            for name in PHASES
        )

    def _simulated(self, capacity: int | None) -> Mapping[str, CudaPeak] | None:
        if capacity is not None and capacity <= 0:
            return None
        allocator = CachingAllocator(capacity, expandable=self.recipe.allocator == "expandable")
        try:
            around = surroundings(self.recipe, self.footprint, self.gpu)
            kept = gathering(self.recipe, self.footprint, self.shape)
            return simulate(self.footprint, self.shape, around, allocator, kept)
        except OutOfMemoryError:
            return None

    def _without_end(self) -> Mapping[str, CudaPeak]:
        """As on a device that is large enough. Joins that grow with every batch leave blocks behind that fit none of
        those to come: PyTorch gives them back at the device's end, so that end is put near."""
        peaks = self._simulated(None)
        assert peaks is not None
        if self.recipe.eval_logits != "none":
            allocated = max(peak.allocated_bytes for peak in peaks.values())
            for room in _ENOUGH_ROOM:
                if (found := self._simulated(int(allocated * room))) is not None:
                    return found
        return peaks

    def _phase(self, name: str, peak: CudaPeak | None, context: int, fits: bool) -> PhaseEstimate:
        if peak is None:
            return _phase(name, {"runtime": context}, self._range(context, fits), 0, 0)
        parts = dict(peak.components)
        parts["runtime"] = parts.get("runtime", 0) + context
        parts[SLACK] = peak.reserved_bytes - peak.allocated_bytes
        components = {part: parts[part] for part in COMPONENTS if parts.get(part)}
        whole = self._range(context + peak.reserved_bytes, fits)
        return _phase(name, components, whole, peak.allocated_bytes, peak.reserved_bytes)

    def _range(self, expected: int, fits: bool) -> ByteRange:
        low, high = residuals(self.recipe, self.gpu).spread().around(expected)
        high = max(expected, min(high, self.budget_bytes)) if fits else high
        return ByteRange(low_bytes=low, expected_bytes=expected, high_bytes=high)


_ENOUGH_ROOM = (1.05, 1.2, 1.5)
_SAME_AS = {"import": "", "save": "evaluation"}


def _phase(
    name: str, components: Mapping[str, int], peak: ByteRange, allocated: int, reserved: int
) -> PhaseEstimate:
    return PhaseEstimate(
        name=name,
        peak=peak,
        components=components,
        cuda=CudaBytes(allocated_bytes=allocated, reserved_bytes=reserved, process_bytes=peak.expected_bytes),
    )
