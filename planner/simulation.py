"""A CUDA run's memory: the traced stream of requests, at full depth, through a simulated caching allocator."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .caching_allocator import Block, CachingAllocator
from .footprint import Footprint
from .gathering import Gathering
from .polynomial import Shape, evaluate
from .stream import Stream

CUDA_PHASES = ("load", "wrap", "first step", "steady step", "evaluation")
WORKSPACE = "runtime"
LOGITS = "logits and loss"


@dataclass(frozen=True, slots=True)
class CudaPeak:
    """One phase on the device, in bytes. `components` are those of allocated at its peak, rounded as allocated."""

    allocated_bytes: int
    reserved_bytes: int
    components: Mapping[str, int]


@dataclass(frozen=True, kw_only=True, slots=True)
class Surroundings:
    """What the device allocates besides the stream: workspaces, the warm-up block of loading."""

    workspace_bytes: int
    warm_up: bool
    """Whether weights are read onto the device (transformers' `caching_allocator_warmup`), not moved there later."""
    untied_bytes: int
    """A model made on the device has a head of its own until it is tied to the embeddings."""
    clears_cache: bool
    """Whether PEFT empties the cache after k-bit preparation (since 0.21)."""


def simulate(
    footprint: Footprint,
    shape: Shape,
    around: Surroundings,
    allocator: CachingAllocator,
    kept: Gathering | None = None,
) -> dict[str, CudaPeak]:
    """Peaks by phase; `kept`: what the evaluation keeps of earlier batches.

    Raises OutOfMemoryError where the allocator's capacity does not hold the run.
    """
    assert footprint.stream is not None
    run = _Run(footprint.stream, shape, around, allocator, kept)
    return run.peaks(footprint.extra_units + 1)


class _Run:
    def __init__(
        self,
        stream: Stream,
        shape: Shape,
        around: Surroundings,
        allocator: CachingAllocator,
        kept: Gathering | None,
    ) -> None:
        values = shape.values()
        evaluated: dict[tuple[int, ...], int] = {}
        for storage in stream.storages:
            if storage.size not in evaluated:
                evaluated[storage.size] = evaluate(storage.size, values)
        self.sizes = [evaluated[s.size] if s.on_device else 0 for s in stream.storages]
        self.stream, self.around, self.allocator, self.kept = stream, around, allocator, kept
        names = dict.fromkeys((*(storage.component for storage in stream.storages), WORKSPACE, LOGITS))
        self.number = {name: index for index, name in enumerate(names)}
        self.kinds = [self.number[storage.component] for storage in stream.storages]
        self.live = [0] * len(names)
        self.blocks: dict[int | str, Block] = {}
        self.found: dict[str, CudaPeak] = {}
        self.highest, self.at_highest = 0, list(self.live)
        self.products = set(stream.products)
        """Forward pass and autograd's own thread each have a cuBLAS handle, and each handle a workspace: taken at its
        first product, whose result is there already."""
        self.joined: list[str] = []
        self.alone: list[str] = []

    def peaks(self, copies: int) -> dict[str, CudaPeak]:
        """Runs the stream with `copies` repeated units."""
        phase = CUDA_PHASES[0]
        if self.around.warm_up:
            self._warm_up(copies)
        for entered, _, slot, index, born in self.stream.schedule(copies):
            if entered != phase:
                if phase == "load" and self.around.untied_bytes:
                    self._born("untied head", self.around.untied_bytes, self.number["weights"])
                    self._died("untied head", self.number["weights"])
                if phase == "evaluation":
                    self._join_the_last()
                for passed in CUDA_PHASES[CUDA_PHASES.index(phase) :]:
                    if passed == entered:
                        break
                    self._end(passed)
                phase = entered
                if phase == "evaluation":
                    self._gather()
            if born:
                self._born(slot, self.sizes[index], self.kinds[index])
                if index in self.products:
                    self.products.discard(index)
                    self._workspace()
            else:
                self._died(slot, self.kinds[index])
        self._end(phase)
        return self.found

    def _born(self, slot: int | str | None, size: int, kind: int) -> None:
        if not size:
            return
        block = self.allocator.allocate(size)
        self.live[kind] += block.size
        if slot is not None:
            self.blocks[slot] = block
        if self.allocator.allocated > self.highest:
            self.highest, self.at_highest = self.allocator.allocated, list(self.live)

    def _workspace(self) -> None:
        self._born(None, self.around.workspace_bytes, self.number[WORKSPACE])

    def _died(self, slot: int | str, kind: int) -> None:
        block = self.blocks.pop(slot, None)
        if block is not None:
            self.live[kind] -= block.size
            self.allocator.release(block)

    def _end(self, phase: str) -> None:
        components = {name: size for name, size in zip(self.number, self.at_highest, strict=True) if size}
        self.found[phase] = CudaPeak(self.highest, self.allocator.peak_reserved, components)
        if phase == "wrap" and self.around.clears_cache:
            self.allocator.empty_cache()
        self.allocator.reset_peaks()
        self.highest, self.at_highest = self.allocator.allocated, list(self.live)

    def _gather(self) -> None:
        """What is kept of a group's batches before its last: each is joined to those before it, part by part. The
        variables that hold a batch by itself let go of it when the next is there."""
        if self.kept is None:
            return
        sizes = [part.tensor_bytes for part in self.kept.parts]
        alone: list[str] = []
        for count in range(1, self.kept.on_device):
            made = [f"batch {count} part {index}" for index in range(len(sizes))]
            for name, size in zip(made, sizes, strict=True):
                self._born(name, size, self.number[LOGITS])
            for name in alone:
                self._died(name, self.number[LOGITS])
            alone = made
            if count == 1:
                self.joined, alone = made, []
            else:
                self._join(count)
        self.alone = alone

    def _join_the_last(self) -> None:
        for name in self.alone:
            self._died(name, self.number[LOGITS])
        if self.joined and self.kept is not None:
            self._join(self.kept.on_device)

    def _join(self, count: int) -> None:
        assert self.kept is not None
        for index, part in enumerate(self.kept.parts):
            name = f"{count} batches part {index}"
            self._born(name, count * part.tensor_bytes, self.number[LOGITS])
            self._died(self.joined[index], self.number[LOGITS])
            self.joined[index] = name

    def _warm_up(self, copies: int) -> None:
        """One block for all weights, allocated and freed before the first is loaded."""
        alive: dict[int, int] = {}
        for phase, _, slot, index, born in self.stream.schedule(copies):
            if phase != CUDA_PHASES[0]:
                break
            if born:
                alive[slot] = self.sizes[index]
            else:
                alive.pop(slot, None)
        total = sum(alive.values())
        if total:
            self.allocator.release(self.allocator.allocate(total))
