"""What a run needs installed beside the stack itself: said before anything is loaded."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec

from ..profiles.errors import LplanError
from .recipe import Recipe
from .versions import stack_versions

_BITSANDBYTES_OPTIMIZERS = ("adamw-8bit", "paged-adamw", "paged-adamw-8bit", "lion")

_Rule = tuple[str, Callable[[Recipe], bool], str, str]
_RULES: tuple[_Rule, ...] = (
    (
        "torchao",
        lambda r: r.device == "cpu" and r.quantization != "none",
        "int8 weights on a CPU need the package torchao",
        "pip install torchao, or take --quantization none",
    ),
    (
        "liger-kernel",
        lambda r: r.device == "cuda" and r.loss == "fused",
        "--loss fused needs the package liger-kernel",
        "take --loss chunked, or pip install liger-kernel",
    ),
    (
        "bitsandbytes",
        lambda r: r.device == "cuda" and (r.quantization != "none" or r.optimizer in _BITSANDBYTES_OPTIMIZERS),
        "quantized weights and 8-bit or paged optimizers need the package bitsandbytes",
        "pip install bitsandbytes",
    ),
    (
        "flash-attn",
        lambda r: r.device == "cuda" and r.attention == "flash",
        "--attention flash needs the package flash-attn",
        "take --attention sdpa, or pip install flash-attn",
    ),
)  # fmt: skip
"""Packages, when a recipe needs them, and what is said where they are missing."""


def packages_beside(recipe: Recipe) -> list[str]:
    """Names, as an index has them, of what the recipe needs beside the stack."""
    return [package for package, needed, _, _ in _RULES if needed(recipe)]


def require_packages(recipe: Recipe) -> None:
    """Raises LplanError where this installation cannot run the recipe on its device."""
    if recipe.device == "cuda":
        _require_cuda(recipe)
    for package, needed, reason, hint in _RULES:
        if needed(recipe) and find_spec(package.replace("-", "_")) is None:
            raise LplanError(reason, hint=hint)


def _require_cuda(recipe: Recipe) -> None:
    torch = stack_versions()["torch"]
    if "+cpu" in torch:
        raise LplanError(
            f"torch {torch} is a build for CPUs: it cannot use the GPU",
            hint="install one for CUDA (pytorch.org/get-started), or give --ram SIZE to train on the CPU",
        )
    if {"optimizer", "weights"} & set(recipe.offload):
        raise LplanError(
            "an offloaded optimizer and offloaded weights are priced, and not run yet",
            hint="take --offload activations or checkpoints",
        )
