"""Bases whose files are quantized already: what their config.json says decides, not a flag."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ..profiles.errors import UsageError
from ..profiles.model import ModelProfile
from .request import Request

_PRICED = ("gptq", "awq")


def as_stored(request: Request, model: ModelProfile) -> Request:
    """The request with the quantization that the model's files have.

    Raises UsageError where it asks for another, or for one that the files don't have.
    """
    recipe, stored = request.recipe, stored_quantization(model.config)
    if model.weights.format == "gguf" and recipe.quantization != "none":
        raise UsageError(
            "transformers does not quantize what it loads from a GGUF file (quantizers/auto.py)",
            hint="convert it to safetensors first, or take --quantization none",
        )
    asked = recipe.quantization if "quantization" in request.given else None
    if stored is None:
        if recipe.is_packed:
            raise UsageError(
                f"the model's config.json names no {recipe.quantization.upper()} weights",
                hint="name the quantized checkpoint, or take --quantization nf4",
            )
        return request
    if asked not in (None, stored):
        raise UsageError(
            f"the model's weights are {stored.upper()} in its files: they cannot be {asked}",
            hint="leave out --quantization, or name the model that was quantized",
        )
    changes: dict[str, Any] = {"quantization": stored}
    if recipe.adapts:
        changes["method"] = "qlora"
    if stored == "awq" and "precision" not in request.given:
        changes["precision"] = "fp16"
    return replace(request, recipe=replace(recipe, **changes))


def stored_quantization(config: Mapping[str, Any]) -> str | None:
    """What the linears are quantized by, of what is priced; None for others."""
    quantization = config.get("quantization_config")
    method = quantization.get("quant_method") if isinstance(quantization, Mapping) else None
    return method if method in _PRICED else None
