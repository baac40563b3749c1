"""What a recipe keeps in host memory while it trains on a GPU, as the libraries that do it do it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from ..recipe import Recipe
from ..stream import PAGEABLE, PINNED
from .loading import WRAP, layer_of
from .tracker import StorageTracker
from .work import Work

SMALLEST_OFFLOADED = 4096
"""Parameters with fewer elements stay with one on the device (torchao's CPUOffloadOptimizer, `minimal_size`)."""


class SavedOnHost(torch.autograd.graph.saved_tensors_hooks):
    """torch.autograd.graph.save_on_cpu(pin_memory=True): every tensor that is saved for backward, weights and views
    included, is copied to pinned memory, and back whenever backward asks for it."""

    def __init__(self, tracker: StorageTracker) -> None:
        def pack(tensor: Tensor) -> Tensor:
            return moved(tensor, PINNED, tracker)

        def unpack(packed: Tensor) -> Tensor:
            return moved(packed, "activations", tracker)

        super().__init__(pack, unpack)


def moved(tensor: Tensor, component: str, tracker: StorageTracker) -> Tensor:
    """A contiguous copy on the other side of the bus."""
    here = tracker.segments[-1]
    copy = torch.empty(tensor.shape, dtype=tensor.dtype, device=tensor.device)
    tracker.adopt([copy], component, here.layer)
    here.work.append(Work("transfer", "", ((tensor.element_size(), *tensor.shape),)))
    return copy


def saving(recipe: Recipe, tracker: StorageTracker) -> AbstractContextManager[Any]:
    """The context of the forward pass."""
    return SavedOnHost(tracker) if "activations" in recipe.offload else nullcontext()


@contextmanager
def offloading(model: nn.Module, recipe: Recipe, tracker: StorageTracker) -> Iterator[None]:
    """A context in which checkpoints and weights of a wrapped model wait where the recipe says."""
    from transformers import modeling_utils

    original = modeling_utils.save_on_cpu
    modeling_utils.save_on_cpu = lambda **_: SavedOnHost(tracker)
    handles = _stream_weights(model, tracker) if "weights" in recipe.offload else []
    try:
        yield
    finally:
        modeling_utils.save_on_cpu = original
        for handle in handles:
            handle.remove()


def _stream_weights(model: nn.Module, tracker: StorageTracker) -> list[Any]:
    """accelerate's AlignDevicesHook with `offload=True`: a module's own frozen parameters are copied to the device
    before its forward pass, and let go after it."""
    handles = []
    for path, module in model.named_modules():
        kept = {n: p for n, p in module._parameters.items() if p is not None and not p.requires_grad}
        if kept:
            handles.append(module.register_forward_pre_hook(_fetch(kept, layer_of(path), tracker)))
            handles.append(module.register_forward_hook(_let_go(kept)))
    return handles


def _fetch(kept: dict[str, nn.Parameter], layer: int, tracker: StorageTracker) -> Callable[..., None]:
    def hook(module: nn.Module, _args: Any) -> None:
        for name, parameter in kept.items():
            copy = moved(parameter.detach(), "weights", tracker)
            module._parameters[name] = nn.Parameter(copy, requires_grad=False)

    return hook


def _let_go(kept: dict[str, nn.Parameter]) -> Callable[..., None]:
    def hook(module: nn.Module, _args: Any, _output: Any) -> None:
        module._parameters.update(kept)

    return hook


class HostOptimizer(torch.optim.Optimizer):
    """torchao's CPUOffloadOptimizer around AdamW (fused, on the CPU): for every parameter a pinned copy and a pinned
    gradient from the start, and states in pageable memory from the first step on; small ones stay on the device."""

    def __init__(self, model: nn.Module, tracker: StorageTracker) -> None:
        self.tracker = tracker
        self.named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
        super().__init__([p for _, p in self.named], {})
        self.pinned: list[Tensor] = []
        for name, parameter in self.named:
            if parameter.numel() >= SMALLEST_OFFLOADED:
                tracker.enter(WRAP, "pinning", layer_of(name))
                twins = [torch.empty_like(parameter, requires_grad=False) for _ in range(2)]
                tracker.adopt(twins, PINNED, layer_of(name))
                self.pinned += twins

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for name, parameter in self.named:
            if parameter.grad is None:
                continue
            large = parameter.numel() >= SMALLEST_OFFLOADED
            phase, stage = self.tracker.segments[-1].phase, self.tracker.segments[-1].stage
            self.tracker.enter(phase, stage, layer_of(name))
            if large:
                both_ways = (2 * parameter.element_size(), *parameter.shape)
                self.tracker.segments[-1].work.append(Work("transfer", "", (both_ways,)))
            if not self.state[parameter]:
                states = {state: torch.zeros_like(parameter) for state in ("exp_avg", "exp_avg_sq")}
                states["step"] = parameter.new_zeros((), dtype=torch.float32)
                self.state[parameter] = states
                self.tracker.adopt(states.values(), PAGEABLE if large else "optimizer", layer_of(name))
