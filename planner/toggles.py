"""What each knob would save or cost: the recipe with one of them changed at a time, priced."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ..profiles.errors import LplanError, UsageError
from .estimate import Estimate
from .estimating import Situation
from .floating import hidden_size
from .footprint import Footprint
from .kernels import on_gpu
from .plan import Schedule
from .rates import Rates
from .recipe import ALL_LINEAR, Allocator, Recipe
from .search import estimate_all
from .timing import predict_time
from .tracer import Progress

_TOGGLES: tuple[tuple[str, Mapping[str, Any]], ...] = (
    ("checkpointing", {"checkpointing": "none"}),
    ("checkpointing", {"checkpointing": "every-2"}),
    ("checkpointing", {"checkpointing": "full"}),
    ("precision", {"precision": "fp32"}),
    ("precision", {"precision": "bf16"}),
    ("precision", {"precision": "bf16-amp"}),
    ("precision", {"precision": "fp16"}),
    ("tf32", {"tf32": True}),
    ("loss", {"loss": "full"}),
    ("loss", {"loss": "chunked"}),
    ("adapter input casting", {"input_casting": False}),
    ("adapter input casting", {"input_casting": True}),
    ("adapter dtype", {"adapter_dtype": "base"}),
    ("dropout", {"dropout": 0.0}),
    ("target modules", {"target_modules": ALL_LINEAR}),
    ("dora", {"dora": True}),
    ("dora", {"dora": False}),
    ("method", {"method": "full"}),
    ("method", {"method": "qlora", "quantization": "nf4"}),
    ("method", {"method": "qlora", "quantization": "nf4-dq"}),
    ("method", {"method": "qlora", "quantization": "int8"}),
    ("k-bit preparation", {"kbit_preparation": False}),
    ("offload", {"offload": ("activations",)}),
    ("offload", {"offload": ("checkpoints",)}),
    ("offload", {"offload": ("optimizer",), "clipping": False}),
    ("offload", {"offload": ("weights",), "checkpointing": "full"}),
    ("optimizer", {"optimizer": "adamw-fused"}),
    ("optimizer", {"optimizer": "adamw-8bit"}),
    ("optimizer", {"optimizer": "sgd"}),
    ("attention", {"attention": "eager"}),
    ("padding", {"padding": "none"}),
    ("padding", {"padding": "packed"}),
    ("gradient clipping", {"clipping": False}),
    ("allocator", {"allocator": "pinned"}),
    ("allocator", {"allocator": "default"}),
    ("allocator", {"allocator": "expandable"}),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Toggle:
    """One change: what it does to the peak and to the time of the same number of sequences."""

    knob: str
    value: str
    peak_bytes: int
    saves_bytes: int
    """Of the expected peak; negative if it costs."""
    time_ratio: float | None
    """Against the recipe as it is; None where no rates are known."""
    fits: bool


def toggles(
    recipe: Recipe,
    situation: Situation,
    rates: Mapping[Allocator, Rates] | None,
    progress: Progress | None = None,
) -> list[Toggle]:
    """Every change that the libraries accept, the largest saving first; half and double batch and length among them."""
    changes = list(_changed(recipe, situation))
    recipes = [recipe, *(changed for _, _, changed in changes)]
    base, *others = (
        None if isinstance(answer, LplanError) else _priced(one, *answer, rates)
        for one, answer in zip(recipes, estimate_all(situation, recipes, progress), strict=True)
    )
    if base is None:
        return []
    found = [
        Toggle(
            knob=knob,
            value=text,
            peak_bytes=price.peak_bytes,
            saves_bytes=base.peak_bytes - price.peak_bytes,
            time_ratio=_ratio(price.token_s, base.token_s),
            fits=price.fits,
        )
        for (knob, text, _), price in zip(changes, others, strict=True)
        if price is not None
    ]
    return sorted(found, key=lambda toggle: -toggle.saves_bytes)


@dataclass(frozen=True, slots=True)
class _Price:
    peak_bytes: int
    token_s: float | None
    fits: bool


def _priced(
    recipe: Recipe, footprint: Footprint, estimate: Estimate, rates: Mapping[Allocator, Rates] | None
) -> _Price:
    token_s = None
    if rates is not None:
        width = hidden_size(estimate.model.config)
        time = predict_time(recipe, footprint, rates[recipe.allocator], None, Schedule(), width)
        token_s = 1 / time.tokens_per_s
    return _Price(estimate.peak.peak.expected_bytes, token_s, estimate.fits)


def _ratio(one_s: float | None, other_s: float | None) -> float | None:
    return None if one_s is None or other_s is None else one_s / other_s


def _changed(recipe: Recipe, situation: Situation) -> Iterator[tuple[str, str, Recipe]]:
    for knob, values in (*_TOGGLES, *_shapes(recipe), *_gathered(recipe)):
        if all(getattr(recipe, name) == value for name, value in values.items()):
            continue
        other = _made(recipe, values, situation)
        if other is None or other == recipe:
            continue
        if knob in _NOT_OF_THE_GRAPH or other.graph() != recipe.graph():
            yield knob, _text(knob, values), other


_NOT_OF_THE_GRAPH = ("allocator", "micro batch", "sequence length", "evaluation logits", "tf32")


def _shapes(recipe: Recipe) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for batch in (recipe.batch_size // 2, recipe.batch_size * 2):
        if batch >= 1:
            accumulation = max(1, recipe.effective_batch // batch)
            yield "micro batch", {"batch_size": batch, "accumulation": accumulation}
    for length in (recipe.seq_len // 2, recipe.seq_len * 2):
        if length >= 1:
            supervised = max(1, recipe.supervised_len * length // recipe.seq_len)
            yield "sequence length", {"seq_len": length, "supervised_len": supervised}


def _gathered(recipe: Recipe) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Where an evaluation keeps logits: none, their argmax, or each batch moved to the host at once."""
    if recipe.eval_logits != "none":
        yield "evaluation logits", {"eval_logits": "none"}
        yield "evaluation logits", {"eval_logits": "argmax"}
        yield "evaluation logits", {"eval_accumulation_steps": 1}


def _made(recipe: Recipe, values: Mapping[str, Any], situation: Situation) -> Recipe | None:
    if values.get("method") == "full":
        values = {**values, "quantization": "none"}
    try:
        other = replace(recipe, **values)
        if other.device == "cuda":
            other = on_gpu(other, situation.hardware.gpus[0], situation.model.config)
    except UsageError:
        return None
    return other


def _text(knob: str, values: Mapping[str, Any]) -> str:
    value = values.get("quantization", next(iter(values.values())))
    if isinstance(value, bool):
        return "on" if value else "off"
    if knob == "method" and "quantization" in values:
        return f"qlora {value}"
    return ",".join(value) if isinstance(value, tuple) else str(value)
