"""Which attention kernel torch runs on a GPU, and what a GPU cannot compute (sdp_utils.cpp, torch 2.13)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ..profiles.errors import UsageError
from ..profiles.hardware import Gpu
from .recipe import Kernel, Recipe

_FLASH = (8, 0)
_BF16 = (8, 0)
_TF32 = (8, 0)
_CUDNN_PREFERRED = ((9, 0), (10, 0))
_WIDEST_HEAD = 256


def on_gpu(recipe: Recipe, gpu: Gpu, config: Mapping[str, Any]) -> Recipe:
    """The recipe with the attention kernel that this GPU runs for a model of this config.json.

    Raises UsageError for bf16 on a GPU without it (torch emulates it, and says that it is supported).
    """
    if "bf16" in recipe.precision and gpu.capability < _BF16:
        raise UsageError(
            f"{gpu.name} has no bf16 (compute capability {'.'.join(map(str, gpu.capability))}): it would be emulated",
            hint="take --precision fp16 or fp16-amp",
        )
    if recipe.tf32 and gpu.capability < _TF32:
        raise UsageError(
            f"{gpu.name} has no TF32 (compute capability {'.'.join(map(str, gpu.capability))}, it came with 8.0)",
            hint="take --tf32 off",
        )
    if recipe.attention == "flash" and gpu.capability < _FLASH:
        raise UsageError(
            f"the flash-attention package needs compute capability 8.0, {gpu.name} has "
            f"{'.'.join(map(str, gpu.capability))}",
            hint="take --attention sdpa",
        )
    kernel = "flash" if recipe.attention == "flash" else _sdpa(recipe, gpu, config)
    return replace(recipe, kernel=kernel, head_ratio=_head_ratio(config) if recipe.loss == "fused" else 1)


def _head_ratio(config: Mapping[str, Any]) -> int:
    return -(-int(config.get("vocab_size") or 1) // _width(config))


def _sdpa(recipe: Recipe, gpu: Gpu, config: Mapping[str, Any]) -> Kernel:
    masked = recipe.padding != "none"
    half = recipe.weights_dtype != "float32" or recipe.autocast_dtype is not None
    narrow = _head_width(config) <= _WIDEST_HEAD
    if half and narrow and gpu.capability in _CUDNN_PREFERRED:
        return "cudnn"
    if half and narrow and not masked and gpu.capability >= _FLASH:
        return "flash"
    # Without a mask transformers leaves grouped heads to torch, and the efficient kernel has none.
    return "math" if _is_grouped(config) and not masked else "efficient"


def _is_grouped(config: Mapping[str, Any]) -> bool:
    heads = config.get("num_attention_heads")
    return bool(config.get("num_key_value_heads", heads) != heads)


def _head_width(config: Mapping[str, Any]) -> int:
    heads = config.get("num_attention_heads") or config.get("n_head") or 1
    return int(config.get("head_dim") or _width(config) // heads)


def _width(config: Mapping[str, Any]) -> int:
    return int(config.get("hidden_size") or config.get("n_embd") or 1)
