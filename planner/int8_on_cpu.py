"""A base whose linears torchao turns to int8 as they are read from files in the recipe's own dtype."""

from __future__ import annotations

from dataclasses import dataclass

from .footprint import Footprint
from .merging import item_bytes
from .polynomial import Shape
from .recipe import Recipe

_LOADING_ITEM_BYTES = 4
"""Scales and rounding of one weight are computed on a copy of it in fp32 (torchao, `quantize_affine`)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Int8Weights:
    """Bytes of the base's weights, by where they are."""

    packed_bytes: int
    """Int8 values, scales and zero points."""
    mapped_bytes: int
    """What is not quantized, and stays pages of the files: embeddings, norms, head."""
    read_bytes: int
    """Pages of the weights that were quantized. They stay mapped with the others, and the kernel can drop them."""
    temporary_bytes: int
    """Of quantizing the largest."""


def int8_weights(recipe: Recipe, footprint: Footprint, shape: Shape) -> Int8Weights:
    """From the traced weights and the number of parameters: each item of a quantized one is a byte now."""
    item = item_bytes(recipe)
    traced = footprint.peak("evaluation", shape)["weights"]
    whole = item * footprint.parameters.at(shape.values(), footprint.extra_units)
    read = (whole - traced) * item // (item - 1)
    return Int8Weights(
        packed_bytes=traced - (whole - read),
        mapped_bytes=whole - read,
        read_bytes=read,
        temporary_bytes=_LOADING_ITEM_BYTES * footprint.largest_adapted,
    )
