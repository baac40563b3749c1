"""What belongs to a run and is no part of a plain one: continuing it, and putting its adapter into the base."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from ..profiles.hardware import Gpu
from .estimate import COMPONENTS, RESUME, ByteRange, CudaBytes, Estimate, PhaseEstimate
from .estimating import Situation, is_mapped, shape_of
from .footprint import Footprint
from .merging import adapted_elements, copying_bytes, in_place_bytes, item_bytes
from .recipe import Recipe
from .residuals import residuals
from .tokens import round_up

IN_PLACE, INTO_A_COPY = "merge in place", "merge into a copy"
_SEGMENT_BYTES = 2 * 2**20
"""What PyTorch's caching allocator rounds its segments to."""
_Parts = dict[str, int]


def with_other_phases(estimate: Estimate, footprint: Footprint, situation: Situation) -> Estimate:
    """The estimate of a run with that of what may come after it. Merging needs an adapter."""
    on = _OnCuda if estimate.recipe.device == "cuda" else _OnCpu
    return replace(estimate, other_phases=on(estimate, footprint, situation).phases())


class _Besides:
    def __init__(self, estimate: Estimate, footprint: Footprint, situation: Situation) -> None:
        self.estimate, self.footprint, self.situation = estimate, footprint, situation
        self.recipe, self.shape = estimate.recipe, shape_of(estimate.recipe)
        self.planned = {phase.name: phase for phase in estimate.phases}
        peak = footprint.peak("evaluation", self.shape)
        self.kept = {part: peak.get(part, 0) for part in ("weights", "adapters", "optimizer")}
        self.adapted = adapted_elements(footprint, self.shape)
        self.mergeable = self.recipe.adapts and self.adapted > 0 and not self.recipe.is_packed


class _OnCpu(_Besides):
    def phases(self) -> tuple[PhaseEstimate, ...]:
        """Those that there are. What PEFT does to merge into torchao's weights, packing them anew, is not priced."""
        if not self.mergeable:
            return (self._resume(),)
        has_files = self.recipe.init == "pretrained"
        in_place = [] if self.recipe.quantization != "none" else [self._in_place()]
        return (self._resume(), *in_place, *([self._into_a_copy()] if has_files else []))

    def _resume(self) -> PhaseEstimate:
        """After wrapping, before the first step: states are back, read from files that the kernel can drop."""
        wrap = self.planned["wrap"]
        trained = self.kept["adapters"] if self.recipe.adapts else self.kept["weights"]
        pages = max(trained, self.kept["optimizer"])
        parts = {**wrap.components, "optimizer": self.kept["optimizer"]}
        parts["runtime"] += pages
        return _phase(RESUME, parts, self.recipe, files=wrap.file_bytes + pages, reclaimable=pages)

    def _in_place(self) -> PhaseEstimate:
        """Either the last weight is being merged, or all are, and are read for saving."""
        wrap, base = self.planned["wrap"], self.kept["weights"]
        libraries = wrap.components["runtime"]
        temporaries = in_place_bytes(self.recipe, self.footprint)
        merging = {**wrap.components, "temporaries": temporaries}
        saving = {"weights": base, "runtime": libraries}
        files = wrap.file_bytes
        if not is_mapped(self.situation.model, self.recipe):
            return _phase(IN_PLACE, max(merging, saving, key=_total), self.recipe, files=files)
        written = self.adapted * item_bytes(self.recipe)
        read = wrap.components.get("weights", 0)
        # DoRA replaces weights, and their pages stay mapped; else a page that is written becomes the process's own.
        left = written if self.recipe.dora else 0
        merging["weights"] = read + written
        saving["weights"] = base + left
        if _total(merging) >= _total(saving):
            return _phase(IN_PLACE, merging, self.recipe, files=files, reclaimable=left)
        files += base + left - written - read
        return _phase(IN_PLACE, saving, self.recipe, files=files, reclaimable=left)

    def _into_a_copy(self) -> PhaseEstimate:
        libraries = self.planned["import"]
        usual, most = copying_bytes(self.recipe, self.footprint)
        parts = {**libraries.components, "adapters": self.kept["adapters"], "temporaries": usual}
        return _phase(INTO_A_COPY, parts, self.recipe, files=libraries.file_bytes, doubtful=most - usual)


class _OnCuda(_Besides):
    def phases(self) -> tuple[PhaseEstimate, ...]:
        """Those that take memory of the device."""
        base = {part: self.kept[part] for part in ("weights", "adapters")}
        found = [self._phase(RESUME, self.kept)]
        if self.mergeable and "weights" not in self.recipe.offload:
            temporaries = in_place_bytes(self.recipe, self.footprint)
            found.append(self._phase(IN_PLACE, {**base, "temporaries": temporaries}))
        return tuple(found)

    def _phase(self, name: str, live: Mapping[str, int]) -> PhaseEstimate:
        wrap, context = self.planned["wrap"].cuda, _total(self.planned["import"].components)
        assert wrap is not None
        allocated = _total(live)
        reserved = max(wrap.reserved_bytes, round_up(allocated, _SEGMENT_BYTES))
        parts = {**live, "runtime": context, "allocator slack": reserved - allocated}
        expected = context + reserved
        gpu: Gpu = self.situation.hardware.gpus[0]
        low, high = residuals(self.recipe, gpu).spread().around(expected)
        return PhaseEstimate(
            name=name,
            peak=ByteRange(low_bytes=low, expected_bytes=expected, high_bytes=high),
            components=_in_order(parts),
            cuda=CudaBytes(allocated_bytes=allocated, reserved_bytes=reserved, process_bytes=expected),
        )


def _phase(
    name: str,
    parts: Mapping[str, int],
    recipe: Recipe,
    *,
    files: int,
    reclaimable: int = 0,
    doubtful: int = 0,
) -> PhaseEstimate:
    """A phase on a CPU; `files` of its bytes are pages of files, and `doubtful` may come on top."""
    expected = _total(parts)
    low, high = residuals(recipe, None).spread().around(expected)
    return PhaseEstimate(
        name=name,
        peak=ByteRange(low_bytes=low, expected_bytes=expected, high_bytes=high + doubtful),
        components=_in_order(parts),
        anonymous_bytes=expected - files,
        file_bytes=files,
        reclaimable_bytes=reclaimable,
    )


def _in_order(parts: Mapping[str, int]) -> _Parts:
    return {name: parts[name] for name in COMPONENTS if parts.get(name)}


def _total(parts: Mapping[str, int]) -> int:
    return sum(parts.values())
