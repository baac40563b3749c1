"""What the layers of a built model are: those of one kind run the same ops on tensors of the same shapes."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterator, Sequence
from typing import Any

from torch import Tensor, nn

from ..recipe import Recipe
from ..stream import NotPeriodicError
from .depth import Depth
from .loading import layer_of

_NUMBERING = re.compile(r"(.*_)?(idx|index|layer_id|layer_number|block_id)")
"""Attributes that say which layer a module is in: no two layers have the same."""


def layer_kinds(layers: nn.ModuleList) -> list[Hashable]:
    """For each layer its modules, their settings, and the shapes of their parameters; whether those are shared."""
    seen: set[int] = set()
    return [
        tuple((name, type(module).__name__, *_facts(module, seen)) for name, module in layer.named_modules())
        for layer in layers
    ]


def outside(model: nn.Module, layers: nn.ModuleList) -> dict[str, tuple[int, ...]]:
    """Shapes of the parameters and buffers that belong to no layer of the stack."""
    inside = {id(tensor) for tensor in _tensors(layers)}
    named = (*model.named_parameters(), *model.named_buffers())
    return {name: tuple(tensor.shape) for name, tensor in named if id(tensor) not in inside}


class Stack:
    """What the whole model is made of, to hold a cut one against."""

    def __init__(self, model: nn.Module, layers: nn.ModuleList) -> None:
        self.kinds, self.outside = layer_kinds(layers), outside(model, layers)

    def kinds_under(self, recipe: Recipe) -> Sequence[Hashable]:
        """The kinds of layers; what is saved of the first, whose input has no gradient, makes fewer copies."""
        if "activations" not in recipe.offload:
            return self.kinds
        return [("first", kind) if layer == 0 else kind for layer, kind in enumerate(self.kinds)]

    def require_same(self, model: nn.Module, layers: nn.ModuleList, depth: Depth) -> None:
        """Raise NotPeriodicError unless a model cut to `depth` differs in its number of layers only."""
        if layer_kinds(layers) != [self.kinds[layer] for layer in depth.kept()]:
            raise NotPeriodicError("the layers of the cut stack are others than those of the whole one")
        if outside(model, layers) != self.outside:
            raise NotPeriodicError("parameters outside the layers depend on their number")
        if any(layer_of(name) >= 0 for name in self.outside):
            raise NotPeriodicError("there are numbered modules beside the stack")


def _facts(module: nn.Module, seen: set[int]) -> Iterator[Any]:
    for name, value in vars(module).items():
        if name == "training" or name.startswith("_") or _NUMBERING.fullmatch(name):
            continue
        if value is None or isinstance(value, (bool, int, str)):
            yield name, value
    for name, tensor in (*module._parameters.items(), *module._buffers.items()):
        if tensor is not None:
            yield name, tuple(tensor.shape), str(tensor.dtype), id(tensor) in seen
            seen.add(id(tensor))


def _tensors(module: nn.Module) -> Iterator[Tensor]:
    yield from module.parameters()
    yield from module.buffers()
