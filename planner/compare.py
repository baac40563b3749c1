"""From scratch, full, LoRA and QLoRA side by side: one model, one machine, the same batches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ..profiles.errors import UsageError
from .pricer import Candidate
from .recipe import Recipe
from .search import price_all
from .task import Task
from .tracer import Progress

RANKS = (8, 16, 64)
_STATE = ("adapters", "gradients", "optimizer")
_ALPHA = 2
"""Alpha over rank, as the founding document has it."""
_ITEM_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}


@dataclass(frozen=True, kw_only=True, slots=True)
class Way:
    """One way to train. Bytes are those of the peak; `saved_bytes` is what has to be kept of the result."""

    name: str
    means: str
    take_when: str
    peak_bytes: int
    fits: bool
    weights_bytes: int
    state_bytes: int
    """Adapters, gradients and optimizer states."""
    rest_bytes: int
    """Activations, logits, temporaries, the process."""
    components: Mapping[str, int]
    """Bytes at the peak by kind; they add up to it."""
    trainable_parameters: int
    saved_bytes: int
    checkpoint_bytes: int
    """What one checkpoint takes on disk: what is kept, and the optimizer's states."""
    step_s: float
    total_s: float
    cost: float | None


def compare(task: Task, price_per_hour: float | None = None, progress: Progress | None = None) -> list[Way]:
    """Every way that the libraries accept on this machine, in order of what it changes."""
    ways = list(_ways(task))
    answers = price_all(task, [recipe for _, _, recipe in ways], progress)
    return [
        _way(name, means, answer, price_per_hour)
        for (name, means, _), answer in zip(ways, answers, strict=True)
        if isinstance(answer, Candidate)
    ]


def _ways(task: Task) -> Iterator[tuple[str, str, Recipe]]:
    start = replace(task.start, method="lora", quantization="none")
    whole = "fp16-amp" if start.precision == "fp16" else start.precision
    plain: dict[str, Any] = {"method": "full", "precision": whole, "input_casting": True}
    options: list[tuple[str, str, dict[str, Any]]] = [
        ("from scratch", _SCRATCH, {**plain, "init": "random"}),
        ("full", _FULL, plain),
        *((f"LoRA r {rank}", _LORA, {"rank": rank, "alpha": _ALPHA * rank}) for rank in RANKS),
        ("QLoRA r 8", _QLORA, {"method": "qlora", "quantization": "nf4", "input_casting": True, "rank": 8}),
    ]
    for name, means, knobs in options:
        try:
            yield name, means, replace(start, **knobs)
        except UsageError:
            continue


_SCRATCH = "random weights learn everything: no pretrained knowledge"
_FULL = "every weight is trained: the most freedom, and a whole model to keep"
_LORA = "a small adapter over a frozen base; more rank, more freedom"
_QLORA = "the same over a 4-bit base: slower, a little less exact"
_WHEN = {
    _SCRATCH: "no model knows the language or the domain, and there are billions of tokens",
    _FULL: "the domain is far from the base's, there is much data, and it fits",
    _LORA: "usual: instructions, tone, intents, one base with many adapters; more rank for more data",
    _QLORA: "the base does not fit otherwise",
}


def _way(name: str, means: str, candidate: Candidate, price_per_hour: float | None) -> Way:
    estimate, recipe, time = candidate.estimate, candidate.recipe, candidate.time
    parts = estimate.peak.components
    states = max(phase.components.get("optimizer", 0) for phase in estimate.phases)
    state = sum(parts.get(part, 0) for part in _STATE)
    whole = _ITEM_BYTES[recipe.weights_dtype] * estimate.trainable_parameters
    saved = parts.get("adapters", 0) if recipe.adapts else whole
    return Way(
        name=name,
        means=means,
        take_when=_WHEN[means],
        peak_bytes=estimate.peak.peak.expected_bytes,
        fits=candidate.fits,
        weights_bytes=parts.get("weights", 0),
        state_bytes=state,
        rest_bytes=estimate.peak.peak.expected_bytes - parts.get("weights", 0) - state,
        trainable_parameters=estimate.trainable_parameters,
        components=dict(parts),
        saved_bytes=saved,
        checkpoint_bytes=saved + states,
        step_s=time.step_s,
        total_s=time.total_s,
        cost=None if price_per_hour is None else time.total_s / 3600 * price_per_hour,
    )
