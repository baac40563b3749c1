"""What comes besides a plain run: tokenizing its data, continuing it, putting its adapter into the base."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from ..profiles.hardware import Gpu
from .estimate import COMPONENTS, RESUME, TOKENIZING, ByteRange, CudaBytes, Estimate, HostBytes, PhaseEstimate
from .estimating import Situation, is_mapped, shape_of
from .footprint import Footprint
from .merging import adapted_elements, copying_bytes, in_place_bytes, item_bytes
from .recipe import Recipe
from .residuals import residuals
from .selectors import vocabulary_size
from .tokenizing import SUPPOSED_SAMPLES, Tokenizing, supposed, tokenizing
from .tokens import round_up
from .workers import tokenizing_bytes

IN_PLACE, INTO_A_COPY = "merge in place", "merge into a copy"
_SEGMENT_BYTES = 2 * 2**20
"""What PyTorch's caching allocator rounds its segments to."""
_Parts = dict[str, int]


def with_other_phases(estimate: Estimate, footprint: Footprint, situation: Situation) -> Estimate:
    """The estimate of a run with that of what comes before it and may come after it. Merging needs an adapter."""
    on = _OnCuda if estimate.recipe.device == "cuda" else _OnCpu
    found = on(estimate, footprint, situation)
    supposing = () if situation.texts or estimate.recipe.tokenizing_workers else (_SUPPOSED,)
    return replace(
        estimate,
        other_phases=found.phases(),
        texts=situation.texts,
        assumptions=(*estimate.assumptions, *supposing),
    )


_SUPPOSED = f"tokenizing: {SUPPOSED_SAMPLES:,} sequences, all of the longest length"


class _Besides:
    def __init__(self, estimate: Estimate, footprint: Footprint, situation: Situation) -> None:
        self.estimate, self.footprint, self.situation = estimate, footprint, situation
        self.recipe, self.shape = estimate.recipe, shape_of(estimate.recipe)
        self.planned = {phase.name: phase for phase in estimate.phases}
        peak = footprint.peak("evaluation", self.shape)
        self.kept = {part: peak.get(part, 0) for part in ("weights", "adapters", "optimizer")}
        self.adapted = adapted_elements(footprint, self.shape)
        self.mergeable = self.recipe.adapts and self.adapted > 0 and not self.recipe.is_packed
        self.entries = vocabulary_size(situation.model.config) or 0

    def tokenizing(self) -> Tokenizing:
        """In a process of its own."""
        return tokenizing(self.situation.texts or supposed(self.recipe.seq_len), self.entries)


class _OnCpu(_Besides):
    def phases(self) -> tuple[PhaseEstimate, ...]:
        """Those that there are. What PEFT does to merge into torchao's weights, packing them anew, is not priced."""
        if not self.mergeable:
            return (self._tokenizing(), self._resume())
        has_files = self.recipe.init == "pretrained"
        in_place = [] if self.recipe.quantization != "none" else [self._in_place()]
        after = (*in_place, *([self._into_a_copy()] if has_files else []))
        return (self._tokenizing(), self._resume(), *after)

    def _tokenizing(self) -> PhaseEstimate:
        if self.recipe.tokenizing_workers:
            wrap, (most, least) = self.planned["wrap"], tokenizing_bytes(self.recipe)
            parts = {**wrap.components, "data": most}
            return _phase(TOKENIZING, parts, self.recipe, files=wrap.file_bytes, spare=most - least)
        found = self.tokenizing()
        expected = _total(found.components)
        return PhaseEstimate(
            name=TOKENIZING,
            peak=ByteRange(low_bytes=found.low_bytes, expected_bytes=expected, high_bytes=found.high_bytes),
            components=found.components,
            anonymous_bytes=expected - found.file_bytes,
            file_bytes=found.file_bytes,
        )

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
        """Those that take memory of the device, and before them tokenizing, which takes the host's alone."""
        base = {part: self.kept[part] for part in ("weights", "adapters")}
        found = [self._tokenizing(), self._phase(RESUME, self.kept)]
        if self.mergeable and "weights" not in self.recipe.offload:
            temporaries = in_place_bytes(self.recipe, self.footprint)
            found.append(self._phase(IN_PLACE, {**base, "temporaries": temporaries}))
        return tuple(found)

    def _tokenizing(self) -> PhaseEstimate:
        if self.recipe.tokenizing_workers:
            wrap, (workers, _) = self.planned["wrap"].host, tokenizing_bytes(self.recipe)
            assert wrap is not None
            host = replace(
                wrap,
                process_bytes=wrap.process_bytes + workers,
                process_high_bytes=wrap.process_high_bytes + workers,
            )
            return replace(self.planned["wrap"], name=TOKENIZING, host=host)
        found = self.tokenizing()
        expected = _total(found.components)
        return PhaseEstimate(
            name=TOKENIZING,
            peak=ByteRange(low_bytes=0, expected_bytes=0, high_bytes=0),
            components={},
            host=HostBytes(
                pinned_bytes=0, pageable_bytes=0, process_bytes=expected, process_high_bytes=found.high_bytes
            ),
        )

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
    spare: int = 0,
) -> PhaseEstimate:
    """A phase on a CPU; `files` of its bytes are pages of files, `doubtful` may come on top, `spare` may not come."""
    expected = _total(parts)
    low, high = residuals(recipe, None).spread().around(expected)
    return PhaseEstimate(
        name=name,
        peak=ByteRange(low_bytes=low - spare, expected_bytes=expected, high_bytes=high + doubtful),
        components=_in_order(parts),
        anonymous_bytes=expected - files,
        file_bytes=files,
        reclaimable_bytes=reclaimable,
    )


def _in_order(parts: Mapping[str, int]) -> _Parts:
    return {name: parts[name] for name in (*COMPONENTS, "data") if parts.get(name)}


def _total(parts: Mapping[str, int]) -> int:
    return sum(parts.values())
