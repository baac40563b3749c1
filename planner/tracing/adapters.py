"""PEFT's adapters over a base model, as a recipe has them: the same for the trace and for the training run."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...profiles.errors import UsageError, first_line
from ..patterns import REGEX
from ..recipe import ALL_LINEAR, ATTENTION, Recipe
from .objective import head_of

_ATTENTION_NAMES = ("attn", "attention", "mixer")
_PACKED_LINEARS = ("Conv1D",)
_ADDED = re.compile(r"\.(lora_\w+|modules_to_save|trainable_tokens_\w+)\.")
_MATCHES_NOTHING = "not found in the base model"


def is_added(name: str) -> bool:
    """Whether a parameter or buffer of this name is PEFT's, and not the base model's."""
    return _ADDED.search(f".{name}.") is not None


def adapted_names(model: nn.Module) -> tuple[str, ...]:
    """What the adapters of a wrapped model are on; nothing without adapters."""
    config = getattr(model, "peft_config", None)
    if not config:
        return ()
    modules, parameters = config["default"].target_modules, config["default"].target_parameters
    names = (modules,) if isinstance(modules, str) else modules or ()
    return (*sorted(names), *sorted(parameters or ()))


def adapted_weights(model: nn.Module) -> Iterator[tuple[str, int]]:
    """Paths and elements of the base's weights that the adapters of a wrapped model can be merged into."""
    from peft.tuners.lora import LoraLayer
    from peft.tuners.lora.layer import ParamWrapper

    for path, module in model.named_modules():
        if isinstance(module, ParamWrapper):
            yield path, module.get_param().numel()
        elif isinstance(module, LoraLayer):
            yield path, module.in_features * module.out_features


def read_on_wrapping(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Names and weights of the base that PEFT reads to make what it adds: for DoRA's norms, for copies."""
    for path, module in model.named_modules():
        source = getattr(module, "original_module", None)
        if getattr(module, "lora_variant", None):
            source = module.base_layer
        if isinstance(source, nn.Module):
            yield from ((f"{path}.{name}", weight) for name, weight in source.named_parameters())


def add_adapters(model: nn.Module, recipe: Recipe) -> nn.Module:
    """The model in PEFT's wrapper, adapters in their dtype.

    Raises UsageError for what matches nothing, what PEFT refuses, and ranks beyond a wrapped layer's width.
    """
    from peft import get_peft_model

    _check_embeddings(model, recipe)
    config = _config(model, recipe)
    if recipe.target_modules in (ALL_LINEAR, ATTENTION):
        config.exclude_modules = _refused_modules(model, config) or None
    try:
        wrapped = get_peft_model(model, config, autocast_adapter_dtype=recipe.adapter_dtype == "fp32")
    except (ValueError, TypeError, NotImplementedError) as error:
        raise _refusal(model, recipe, error) from error
    _check_matches(wrapped, recipe)
    _check_ranks(wrapped)
    if recipe.adapter_dtype == "base":
        _cast_adapters(wrapped, getattr(torch, recipe.weights_dtype))
    if not recipe.input_casting:
        stop_input_casting(wrapped)
    return wrapped  # type: ignore[no-any-return]


def _config(model: nn.Module, recipe: Recipe) -> Any:
    from peft import LoraConfig

    return LoraConfig(
        r=recipe.rank, lora_alpha=recipe.alpha, lora_dropout=recipe.dropout,
        rank_pattern=dict(recipe.rank_pattern), alpha_pattern=dict(recipe.alpha_pattern),
        use_rslora=recipe.rslora, use_dora=recipe.dora, lora_bias=recipe.lora_bias,
        bias=recipe.bias.replace("-", "_"), target_modules=resolve_targets(model, recipe.target_modules),
        target_parameters=list(recipe.target_parameters) or None,
        modules_to_save=list(recipe.modules_to_save) or None,
        trainable_token_indices=list(recipe.trainable_tokens) or None, task_type="CAUSAL_LM",
    )  # fmt: skip


def resolve_targets(model: nn.Module, names: tuple[str, ...]) -> str | list[str]:
    """PEFT's `target_modules` for a recipe's: "attention" becomes the projections this model has."""
    if names == ALL_LINEAR:
        return "all-linear"
    if names and names[0].startswith(REGEX):
        return names[0].removeprefix(REGEX)
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


def stacked_parameters(model: nn.Module) -> set[str]:
    """Module and name of every parameter with three dimensions, such as experts.down_proj."""
    return {
        ".".join(name.split(".")[-2:]) for name, parameter in model.named_parameters() if parameter.dim() == 3
    }


def _refusal(model: nn.Module, recipe: Recipe, error: Exception) -> UsageError:
    unknown = _MATCHES_NOTHING in str(error)
    why = "match nothing trainable" if unknown else f"are refused by PEFT: {first_line(error)}"
    names = ", ".join((*recipe.target_modules, *recipe.target_parameters))
    return UsageError(
        f"target modules {names} {why}", hint=f"it has: {', '.join(sorted(linear_suffixes(model)))}"
    )


def _check_embeddings(model: Any, recipe: Recipe) -> None:
    """PEFT's own check compares whole paths, and fails later where a name is a path's end."""
    embeddings = model.get_input_embeddings() if recipe.trainable_tokens else None
    path = next((path for path, module in model.named_modules() if module is embeddings), "")
    if path.endswith(recipe.modules_to_save or ("*",)):
        raise UsageError(
            "the embeddings are trained whole by --modules-to-save, or row by row by --trainable-tokens",
            hint="leave one of the two out",
        )


def _check_matches(wrapped: Any, recipe: Recipe) -> None:
    """PEFT passes over names and patterns that match nothing, or warns: a typing error would train another model."""
    from peft.utils.other import ModulesToSaveWrapper

    base, tuner = wrapped.get_base_model(), wrapped.base_model
    keys = [*tuner.targeted_module_names, *tuner.targeted_parameter_names]
    for flag, patterns in (
        ("--rank-pattern", recipe.rank_pattern),
        ("--alpha-pattern", recipe.alpha_pattern),
    ):
        for pattern, _ in patterns:
            if not any(re.match(rf"(.*\.)?({pattern})$", key) for key in keys):
                raise _nothing(f"{flag} {pattern}", keys)
    for name in recipe.target_parameters:
        if not any(f".{key}".endswith(f".{name}") for key in tuner.targeted_parameter_names):
            raise _nothing(f"--target-parameters {name}", stacked_parameters(base))
    copied = {n for n, m in base.named_modules(remove_duplicate=False) if isinstance(m, ModulesToSaveWrapper)}
    for name in recipe.modules_to_save:
        if not any(path.endswith(name) for path in copied):
            raise _nothing(f"--modules-to-save {name}", _modules(base))


_SHOWN = 12
_WRAPPED = ("base_layer", "original_module")


def _nothing(what: str, known: Iterable[str]) -> UsageError:
    names = sorted({".".join(path.split(".")[-2:]) for path in known})
    return UsageError(f"{what} matches nothing", hint=f"it has: {', '.join(names[:_SHOWN]) or 'none'}")


def _modules(model: nn.Module) -> Iterator[str]:
    """Last name parts of the base's own modules."""
    for path, module in model.named_modules():
        name = path.rpartition(".")[2]
        if (
            name
            and not name.isdigit()
            and name not in _WRAPPED
            and not is_added(path)
            and next(module.parameters(), None) is not None
        ):
            yield name


def _cast_adapters(model: nn.Module, dtype: torch.dtype) -> None:
    """PEFT gives adapters the base's dtype itself, but not on the meta device."""
    for name, parameter in model.named_parameters():
        if ".lora_" in name:
            parameter.data = parameter.data.to(dtype)


def _check_ranks(model: nn.Module) -> None:
    from peft.tuners.lora import LoraLayer

    for name, module in model.named_modules():
        if isinstance(module, LoraLayer) and (rank := max(module.r.values())) > (width := module.in_features):
            raise UsageError(f"rank {rank} exceeds the width {width} of {name}", hint=f"at most {width}")


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
