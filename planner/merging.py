"""What putting an adapter into its base holds in memory: by PEFT in place, and block by block into new files."""

from __future__ import annotations

from ..profiles.units import MIB
from .footprint import Footprint
from .polynomial import Shape
from .recipe import Recipe

BLOCK_BYTES = 64 * MIB
"""A block of a weight's rows in fp32, unless memory is short."""
BLOCKS = 5
"""Blocks in fp32 that exist at once at most: the weight, its update, their sum, the rounding, the bytes."""
_USUAL_BLOCKS = {2: 3, 4: 2}
"""By bytes of the base's items: file bytes, fp32 and rounding, beside the fp32 and rounding of the block before."""


def adapted_elements(footprint: Footprint, shape: Shape) -> int:
    """Elements of the base's weights that change; 0 where a footprint does not tell."""
    found = footprint.adapted
    return 0 if found is None else found.at(shape.values(), footprint.extra_units)


def in_place_bytes(recipe: Recipe, footprint: Footprint) -> int:
    """Temporaries of PEFT's `merge_and_unload` at the largest weight (peft/tuners/lora/layer.py, variants.py, bnb.py).

    B @ A and its scaled copy exist together. Adding fp32 to 16 bits takes copies of the sum's both ends in fp32 on a
    CPU, and none on a GPU, whose kernels convert as they go. DoRA's new weight is made from four such matrices. A
    quantized weight is unpacked, added to, sent to the host, and packed from what comes back.
    """
    item = 4 if recipe.adapter_dtype == "fp32" or recipe.device == "cpu" else item_bytes(recipe)
    matrices = 2 * item
    if recipe.device == "cpu" and recipe.adapter_dtype == "fp32" and item_bytes(recipe) < item:
        matrices = 3 * item
    if recipe.quantization != "none":
        matrices = 3 * item + item_bytes(recipe)
    if recipe.dora:
        matrices = max(matrices, 4 * item)
    return matrices * footprint.largest_adapted


def item_bytes(recipe: Recipe) -> int:
    """Bytes of an item of the base's weights, those that are not quantized."""
    return 4 if recipe.weights_dtype == "float32" else 2


def copying_bytes(recipe: Recipe, footprint: Footprint) -> tuple[int, int]:
    """Blocks that `lplan merge` holds, as a rule and at most."""
    block = min(BLOCK_BYTES, 4 * footprint.largest_adapted)
    return _USUAL_BLOCKS[item_bytes(recipe)] * block, BLOCKS * block
