"""What loading and wrapping allocate, in the order in which they do: recorded without the work itself."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn

from ..recipe import Recipe
from ..stream import PAGEABLE
from .adapters import is_added
from .quantized import QuantizedLinear
from .tracker import StorageTracker

LOAD, WRAP = "load", "wrap"


class Loading:
    """Makes a tracker see the parameters of a wrapped model arrive."""

    def __init__(self, model: nn.Module, recipe: Recipe, tracker: StorageTracker) -> None:
        self.model, self.recipe, self.tracker = model, recipe, tracker
        self.layer: int | None = None

    def run(self) -> None:
        """Base weights, what k-bit preparation casts, adapters."""
        if self.recipe.quantization == "none":
            self._adopt(LOAD, "weights", self._named(adapters=False))
        else:
            self._load_quantized()
        self._adopt(WRAP, "adapters", self._named(adapters=True))

    def _adopt(self, phase: str, component: str, named: Iterable[tuple[str, Tensor]]) -> None:
        self.layer = None
        for name, tensor in named:
            self._enter(phase, component, name)
            self.tracker.adopt([tensor], self._home(tensor, component), layer_of(name))

    def _home(self, tensor: Tensor, component: str) -> str:
        """Where a tensor waits: accelerate's cpu_offload leaves buffers on the device."""
        hosted = "weights" in self.recipe.offload and isinstance(tensor, nn.Parameter)
        return PAGEABLE if hosted and not tensor.requires_grad else component

    def _load_quantized(self) -> None:
        """Each linear in 16 bits, then packed, then without the 16 bits; what else there is in 16 bits."""
        dtype = getattr(torch, self.recipe.weights_dtype)
        waiting: list[tuple[str, Tensor, Tensor]] = []
        self.layer = None
        seen: set[int] = set()
        for path, module in self.model.named_modules():
            if is_added(path):
                continue
            if isinstance(module, QuantizedLinear):
                self._enter(LOAD, "weights", path)
                original = None
                if module.on_load:
                    original = torch.empty(
                        module.out_features, module.in_features, dtype=dtype, device="meta"
                    )
                    self._born(original, path)
                self.tracker.adopt(module.buffers(recurse=False), "weights", layer_of(path))
                del original
            for name, tensor in (*module.named_parameters(recurse=False), *_plain_buffers(module)):
                if id(tensor) in seen:
                    continue  # a head that is the embeddings
                seen.add(id(tensor))
                self._enter(LOAD, "weights", f"{path}.{name}")
                if (
                    tensor.dtype == torch.float32
                    and isinstance(tensor, nn.Parameter)
                    and dtype != torch.float32
                ):
                    original = torch.empty(tensor.shape, dtype=dtype, device="meta")
                    self._born(original, path)
                    waiting.append((f"{path}.{name}", tensor, original))
                else:
                    self.tracker.adopt([tensor], "weights", layer_of(f"{path}.{name}"))
        self._cast(waiting)

    def _cast(self, waiting: list[tuple[str, Tensor, Tensor]]) -> None:
        self.layer = None
        waiting.reverse()
        while waiting:
            name, tensor, original = waiting.pop()
            self._enter(WRAP, "cast", name)
            self.tracker.adopt([tensor], "weights", layer_of(name))
            del original

    def _born(self, tensor: Tensor, name: str) -> None:
        self.tracker.adopt([tensor], "weights", layer_of(name))

    def _enter(self, phase: str, stage: str, name: str) -> None:
        if self.layer != (layer := layer_of(name)):
            self.layer = layer
            self.tracker.enter(phase, stage, layer)

    def _named(self, *, adapters: bool) -> Iterator[tuple[str, Tensor]]:
        named = (*self.model.named_parameters(), *self.model.named_buffers())
        return ((name, tensor) for name, tensor in named if is_added(name) is adapters)


def _plain_buffers(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    return iter(()) if isinstance(module, QuantizedLinear) else module.named_buffers(recurse=False)


def layer_of(name: str) -> int:
    """The layer number in a parameter's name; -1 for none."""
    match = re.search(r"\.(\d+)\.", f"{name}.")
    return int(match[1]) if match else -1
