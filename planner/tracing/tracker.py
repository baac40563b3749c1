"""Follows every storage that is born and dies under a training step, and the work done between."""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from .contents import Contents
from .shortcut import declined, shortcut
from .work import Work, is_product, work_of

Scratch = Callable[[Any, Sequence[Any]], Iterable[tuple[tuple[int, ...], torch.dtype]]]


@dataclass(slots=True)
class Storage:
    """One storage: what it was born as, and what it turned out to be.

    `component` is one of `planner.estimate.COMPONENTS` once known; `recomputed` marks a birth under grad mode,
    which in backward means activation checkpointing's second forward.
    """

    index: int
    size_bytes: int
    dimensions: tuple[int, ...]
    itemsize: int
    recomputed: bool
    component: str | None = None


@dataclass(slots=True)
class Segment:
    """A stretch of the step that belongs to one phase, one stage, and one layer or none (-1).

    `events`: storage index + 1 for a birth, minus that for a death, in order.
    """

    phase: str
    stage: str
    layer: int
    events: list[int] = field(default_factory=list)
    work: list[Work] = field(default_factory=list)

    def settled(self) -> list[int]:
        """The events with every run of deaths in order: caches die as their hash tables have it."""
        runs = groupby(self.events, key=lambda event: event > 0)
        return [event for born, run in runs for event in (run if born else sorted(run))]


class PerTokenLoopError(Exception):
    """A layer runs a loop over tokens: its graph is another for every length."""


class StorageTracker(TorchDispatchMode):
    """A dispatch mode that records births and deaths of storages, segment by segment.

    `mask_is_full` answers transformers' question whether the padding mask is all ones, which decides
    between the causal path and a materialised mask. `scratch` names what a device's kernels allocate for themselves.
    """

    answers = True
    """Whether it answers for tensors that have no contents."""

    def __init__(self, *, mask_is_full: bool, experts: int = 1, scratch: Scratch | None = None) -> None:
        super().__init__()
        self.contents = Contents(mask_is_full, experts)
        self.scratch = scratch
        self.storages: list[Storage] = []
        self.segments: list[Segment] = []
        self.products: dict[bool, int] = {}
        """The result of the first matrix product of the forward pass (False) and of autograd (True), by index."""
        self.longest_segment: int | None = None
        """Events beyond which a segment must be a loop over tokens; None lets it loop."""
        self._live: dict[int, Storage] = {}
        self._owners: dict[int, int] = {}

    def enter(self, phase: str, stage: str, layer: int = -1) -> None:
        """Begin a new segment."""
        self.segments.append(Segment(phase, stage, layer))

    def adopt(self, tensors: Iterable[Tensor], component: str, layer: int = -1) -> None:
        """Say what tensors are and which layer they belong to; those not seen yet are born now."""
        for tensor in tensors:
            self._follow(tensor).component = component
            self._owners[tensor.untyped_storage()._cdata] = layer

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = self.contents.answer(func, args) if self.answers else None
        if output is None:
            output = shortcut(func, args, kwargs)
        if declined(output):
            output = func(*args, **(kwargs or {}))
        outputs = output if isinstance(output, (tuple, list)) else (output,)
        for position, tensor in enumerate(outputs):
            if isinstance(tensor, Tensor):
                self._enter_owner(args, position)
                self._follow(tensor)
        if self.scratch is not None:
            self._hold_scratch(self.scratch(func, args))
        if is_product(func):
            self.products.setdefault(_in_autograd(), self._follow(output).index)
        if work := work_of(func, args, outputs):
            self.segments[-1].work.append(work)
        return output

    def _hold_scratch(self, sizes: Iterable[tuple[tuple[int, ...], torch.dtype]]) -> None:
        """Births beside the results, and deaths at once."""
        held = [torch.empty(shape, dtype=dtype, device="meta") for shape, dtype in sizes]
        for tensor in held:
            self._follow(tensor)

    def _enter_owner(self, args: Sequence[Any], position: int) -> None:
        """In the optimizer, every op belongs to the layer of the parameter that it works on."""
        here = self.segments[-1]
        if here.stage != "optimizer":
            return
        layer = self._owner(args, position)
        if layer is not None and layer != here.layer:
            self.enter(here.phase, here.stage, layer)

    def _owner(self, args: Sequence[Any], position: int) -> int | None:
        for arg in args:
            if isinstance(arg, (tuple, list)) and position < len(arg):
                arg = arg[position]
            if isinstance(arg, Tensor):
                owner = self._owners.get(arg.untyped_storage()._cdata)
                if owner is not None:
                    return owner
        return None

    def _follow(self, tensor: Tensor) -> Storage:
        untyped = tensor.untyped_storage()
        key = untyped._cdata
        if key in self._live:
            return self._live[key]
        storage = Storage(
            len(self.storages),
            untyped.nbytes(),
            tuple(tensor.shape),
            tensor.element_size(),
            torch.is_grad_enabled(),
        )
        self.storages.append(storage)
        self._live[key] = storage
        if self.segments[-1].stage == "optimizer":
            self._owners[key] = self.segments[-1].layer
        here = self.segments[-1]
        here.events.append(storage.index + 1)
        if here.stage == "forward" and len(here.events) > (self.longest_segment or sys.maxsize):
            raise PerTokenLoopError
        weakref.finalize(untyped, self._died, key)
        return storage

    def _died(self, key: int) -> None:
        storage = self._live.pop(key, None)
        self._owners.pop(key, None)
        if storage is not None:
            self.segments[-1].events.append(-storage.index - 1)


def _in_autograd() -> bool:
    """Whether this is a backward pass, recomputed forward passes included: it runs in a thread of its own on a GPU."""
    return bool(torch._C._current_graph_task_id() != -1)
