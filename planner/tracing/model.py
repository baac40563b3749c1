"""Builds and wraps the model of a recipe: the same code for the trace and for the training run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from ...profiles.errors import LplanError, first_line
from ..recipe import Recipe
from .adapters import add_adapters
from .cuda import MASKLESS, register_maskless
from .depth import layer_count
from .packed import pack
from .quantized import quantize

PACKED_AS = "packed_as"
"""Where a configuration keeps how its checkpoint is packed: `quantization_config` would make transformers load it."""


def make_config(values: Mapping[str, Any], *, trust_remote_code: bool = False) -> Any:
    """The transformers configuration of a config.json's content. Raises LplanError when it is refused."""
    from transformers import AutoConfig

    packed_as = values.get(PACKED_AS) or values.get("quantization_config")
    values = {
        k: v
        for k, v in values.items()
        if k not in ("auto_map", "quantization_config", "transformers_version", PACKED_AS)
    }
    model_type = values.pop("model_type", "")
    try:
        config = AutoConfig.for_model(model_type, **values)
    except Exception as error:
        raise LplanError(
            f"transformers refuses this config.json: {first_line(error)}", hint="check the file's fields"
        ) from error
    text = text_config(config)
    found = text if text is not config and _is_causal(text) else config
    setattr(found, PACKED_AS, packed_as)
    return found


def text_config(config: Any) -> Any:
    """The part that describes the language model; the configuration itself where it names several."""
    try:
        return config.get_text_config()
    except ValueError:
        return config


def build(config: Any, recipe: Recipe) -> nn.Module:
    """The base model of `config`, unwrapped, on the device and mode of the surrounding context."""
    from transformers import AutoModelForCausalLM

    config.use_cache = False
    if recipe.attention == "flash":
        register_maskless()
    try:
        model: nn.Module = AutoModelForCausalLM.from_config(
            config, dtype=getattr(torch, recipe.weights_dtype), attn_implementation=attention_of(recipe)
        )
    except Exception as error:
        raise LplanError(
            f"{type(config).__name__} does not build a causal language model: {first_line(error)}",
            hint="check config.json; widths must divide by the number of heads",
        ) from error
    return model


def attention_of(recipe: Recipe) -> str | None:
    """transformers' `attn_implementation`: None lets it take SDPA where the model supports it, else eager.

    The flash-attention package is traced as torch's own copy of its kernel (planner.tracing.cuda).
    """
    return {"sdpa": None, "eager": "eager", "flash": MASKLESS}[recipe.attention]


def wrap(model: nn.Module, recipe: Recipe) -> nn.Module:
    """The model as it is trained: adapters, their dtype and casting, checkpointing, train mode.

    Raises UsageError for adapters that this model cannot have.
    """
    model.config.use_cache = False  # type: ignore[union-attr]
    is_quantized = bool(getattr(model, "is_quantized", False))  # by bitsandbytes, on loading
    if recipe.adapts:
        model = add_adapters(model, recipe)
    if recipe.is_packed:
        pack(model, recipe)
    elif recipe.quantization != "none" and not is_quantized:
        quantize(model, recipe)
    if recipe.checkpoint_period:
        model.activation_checkpointing_enable(  # type: ignore[operator]
            activation_checkpointing_kwargs={"use_reentrant": False},
            every_n_layers=recipe.checkpoint_period,
            offload="checkpoints" in recipe.offload,
        )
    model.train()
    return model


def decoder_layers(model: nn.Module) -> nn.ModuleList:
    """The stack of repeated layers: the list whose length is the configuration's number of layers.

    Where there is none (layers of two kinds in turn, several stacks), the list that holds the most.
    """
    count = layer_count(text_config(model.config))
    lists = [m for m in model.modules() if isinstance(m, nn.ModuleList)]
    stacks = [layers for layers in lists if len(layers) == count] or lists or [nn.ModuleList()]
    return max(stacks, key=lambda layers: sum(p.numel() for p in layers.parameters()))


def _is_causal(config: Any) -> bool:
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    return config.model_type in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
