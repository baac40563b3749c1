"""What a run needs installed beside the stack itself: said before anything is loaded."""

from __future__ import annotations

from importlib.util import find_spec

from ..profiles.errors import LplanError
from .recipe import Recipe
from .versions import stack_versions


def require_packages(recipe: Recipe) -> None:
    """Raises LplanError where this installation cannot run the recipe on its device."""
    if recipe.device != "cuda":
        if recipe.quantization != "none" and find_spec("torchao") is None:
            raise LplanError(
                "int8 weights on a CPU need the package torchao",
                hint="pip install torchao, or take --quantization none",
            )
        return
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
    if recipe.loss == "fused" and find_spec("liger_kernel") is None:
        raise LplanError(
            "--loss fused needs the package liger-kernel",
            hint="take --loss chunked, or pip install liger-kernel",
        )
    if _needs_bitsandbytes(recipe) and find_spec("bitsandbytes") is None:
        raise LplanError(
            "quantized weights and 8-bit or paged optimizers need the package bitsandbytes",
            hint="pip install bitsandbytes",
        )
    if recipe.attention == "flash" and find_spec("flash_attn") is None:
        raise LplanError(
            "--attention flash needs the package flash-attn",
            hint="take --attention sdpa, or pip install flash-attn",
        )


def _needs_bitsandbytes(recipe: Recipe) -> bool:
    return recipe.quantization != "none" or recipe.optimizer in (
        "adamw-8bit",
        "paged-adamw",
        "paged-adamw-8bit",
        "lion",
    )
