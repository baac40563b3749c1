"""What transformers' Trainer keeps of an evaluation batch where metrics are computed (Trainer.prediction_step)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..footprint import Gathered
from ..polynomial import Coefficients, Shape, symbolize, term
from ..recipe import Recipe

LOGITS_AND_LABELS = 2
_LEFT_OUT = ("past_key_values",)


@dataclass(frozen=True, slots=True)
class Kept:
    """A tensor that is kept: its dimensions, bytes an element, and whether it is bf16."""

    dimensions: tuple[int, ...]
    itemsize: int
    widened: bool

    @property
    def size_bytes(self) -> int:
        """Of all its elements."""
        return self.itemsize * torch.Size(self.dimensions).numel()

    def in_terms_of(self, shape: Shape) -> Coefficients | None:
        """Its bytes as a polynomial; None where there is none."""
        return symbolize(self.size_bytes, self.dimensions, self.itemsize, shape)


def kept(tensors: Iterable[Tensor]) -> tuple[Kept, ...]:
    """What is known of tensors when they are gone."""
    return tuple(Kept(tuple(t.shape), t.element_size(), t.dtype == torch.bfloat16) for t in tensors)


def gathered(found: Iterable[Kept], shape: Shape | None) -> tuple[Gathered, ...]:
    """Their sizes as functions of the batch shape that was traced; without it as they are."""
    sized = ((one, one.in_terms_of(shape) if shape else None) for one in found)
    return tuple(Gathered(size or term("1", one.size_bytes), one.widened) for one, size in sized)


def returned(outputs: Mapping[str, Any], recipe: Recipe) -> dict[str, Any]:
    """A model's outputs as accelerate returns them: under mixed precision in fp32 (utils/operations.py,
    `ConvertOutputsToFp32`)."""
    found = dict(outputs)
    if recipe.autocast_dtype is not None:
        for name, value in found.items():
            if isinstance(value, Tensor) and value.is_floating_point():
                found[name] = value.float()
    return found


def predicted(outputs: dict[str, Any], config: Any, labels: Tensor, recipe: Recipe) -> list[Tensor]:
    """All outputs but the loss and those that the configuration leaves out, or the logits' argmax; and the labels."""
    left_out = ("loss", *getattr(config, "keys_to_ignore_at_inference", _LEFT_OUT))
    found = list(_tensors([value for name, value in outputs.items() if name not in left_out]))
    outputs.clear()
    if recipe.eval_logits == "argmax":
        found = [found[0].argmax(dim=-1)]
    return [*found, labels]


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from _tensors(item)
