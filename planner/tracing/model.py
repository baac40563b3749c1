"""Builds and wraps the model of a recipe: the same code for the trace and for the training run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...profiles.errors import LplanError, UsageError
from ..recipe import ALL_LINEAR, ATTENTION, Recipe
from .cuda import MASKLESS, register_maskless
from .depth import layer_count
from .objective import head_of
from .quantized import quantize

_ATTENTION_NAMES = ("attn", "attention", "mixer")
_PACKED_LINEARS = ("Conv1D",)


def make_config(values: Mapping[str, Any], *, trust_remote_code: bool = False) -> Any:
    """The transformers configuration of a config.json's content. Raises LplanError when it is refused."""
    from transformers import AutoConfig

    values = {
        k: v
        for k, v in values.items()
        if k not in ("auto_map", "quantization_config", "transformers_version")
    }
    model_type = values.pop("model_type", "")
    try:
        config = AutoConfig.for_model(model_type, **values)
    except Exception as error:
        raise LplanError(
            f"transformers refuses this config.json: {first_line(error)}", hint="check the file's fields"
        ) from error
    text = text_config(config)
    return text if text is not config and _is_causal(text) else config


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

    Raises UsageError where target modules match nothing or the rank exceeds a wrapped layer's width.
    """
    model.config.use_cache = False  # type: ignore[union-attr]
    if recipe.adapts:
        model = _add_adapters(model, recipe)
    if recipe.quantization != "none":
        quantize(model, recipe)
    if recipe.checkpoint_period:
        model.activation_checkpointing_enable(  # type: ignore[operator]
            activation_checkpointing_kwargs={"use_reentrant": False}, every_n_layers=recipe.checkpoint_period
        )
    model.train()
    return model


def _add_adapters(model: nn.Module, recipe: Recipe) -> nn.Module:
    from peft import LoraConfig, get_peft_model

    targets = resolve_targets(model, recipe.target_modules)
    config = LoraConfig(
        r=recipe.rank, lora_alpha=recipe.alpha, lora_dropout=recipe.dropout, bias="none",
        target_modules=targets, task_type="CAUSAL_LM",
    )  # fmt: skip
    if recipe.target_modules in (ALL_LINEAR, ATTENTION):
        config.exclude_modules = _refused_modules(model, config) or None
    try:
        wrapped = get_peft_model(model, config, autocast_adapter_dtype=recipe.adapter_dtype == "fp32")
    except ValueError as error:
        names = ", ".join(sorted(linear_suffixes(model)))
        unknown = "not found in the base model" in str(error)
        why = "match nothing trainable" if unknown else f"are refused by PEFT: {first_line(error)}"
        raise UsageError(
            f"target modules {', '.join(recipe.target_modules)} {why}", hint=f"it has: {names}"
        ) from error
    _check_rank(wrapped, recipe.rank)
    if recipe.adapter_dtype == "base":
        _cast_adapters(wrapped, getattr(torch, recipe.weights_dtype))
    if not recipe.input_casting:
        stop_input_casting(wrapped)
    return wrapped  # type: ignore[no-any-return]


def resolve_targets(model: nn.Module, names: tuple[str, ...]) -> str | list[str]:
    """PEFT's `target_modules` for a recipe's: "attention" becomes the projections this model has."""
    if names == ALL_LINEAR:
        return "all-linear"
    if names != ATTENTION:
        return list(names)
    suffixes = {s for s in linear_suffixes(model) if any(part in s for part in _ATTENTION_NAMES)}
    return sorted(suffixes) if suffixes else "all-linear"


def _refused_modules(model: nn.Module, config: Any) -> list[str]:
    """What PEFT refuses to adapt in this model: Mamba's kernels read the weights of some linears themselves."""
    from peft.tuners import tuners_utils

    check = getattr(tuners_utils, "_check_lora_target_modules_mamba", None)
    refused: list[str] = []
    for name in sorted({path.rpartition(".")[2] for path, _ in model.named_modules()}):
        try:
            if check is not None:
                check(config, model, name)
        except ValueError:
            refused.append(name)
    return refused


def linear_suffixes(model: nn.Module) -> set[str]:
    """The last two name parts of every linear inside the model's layers, such as self_attn.q_proj."""
    head = head_of(model)
    return {
        ".".join(name.split(".")[-2:])
        for name, module in model.named_modules()
        if _is_linear(module) and module is not head and any(part.isdigit() for part in name.split("."))
    }


def _is_linear(module: nn.Module) -> bool:
    return isinstance(module, nn.Linear) or type(module).__name__ in _PACKED_LINEARS


def _cast_adapters(model: nn.Module, dtype: torch.dtype) -> None:
    """PEFT gives adapters the base's dtype itself, but not on the meta device."""
    for name, module in model.named_modules():
        if name.endswith((".lora_A", ".lora_B")):
            module.to(dtype)


def _check_rank(model: nn.Module, rank: int) -> None:
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear) and "lora_A" in name and rank > (width := module.in_features):
            raise UsageError(
                f"rank {rank} exceeds the width {width} of {name.split('.lora_A')[0]}",
                hint=f"at most {width}",
            )


class _CastingLinear(nn.Linear):
    """A linear that casts its weight to the input's dtype, instead of the input to the weight's."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        bias = None if self.bias is None else self.bias.to(input.dtype)
        return F.linear(input, self.weight.to(input.dtype), bias)


def stop_input_casting(model: nn.Module) -> None:
    """Makes fp32 adapters compute in the base's dtype: master weights in fp32, no fp32 copy of any input."""
    for name, module in model.named_modules():
        if hasattr(module, "lora_A"):
            module.cast_input_dtype_enabled = False
        if type(module) is nn.Linear and (".lora_A." in name or ".lora_B." in name):
            module.__class__ = _CastingLinear


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


def first_line(error: Exception) -> str:
    """An exception as one line for the user."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else 'no message'}"
