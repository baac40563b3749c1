"""The fastest recipe that fits: every allowed combination of knobs is priced, none is guessed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from ..profiles.errors import LplanError
from .estimate import Estimate
from .estimating import Situation, make_estimate, shape_of
from .footprint import Footprint
from .plan import Schedule, TimeEstimate
from .rates import Rates
from .recipe import Allocator, Recipe
from .request import not_chunkable
from .timing import predict_time
from .tokens import TokenLengths
from .tracer import Progress, baseline, footprints

EQUALLY_FAST = 0.05
"""Predicted times closer than this are taken as equal: the time model is not that exact."""
FLOATING = ("batch_size", "precision", "checkpointing", "loss", "input_casting", "optimizer", "allocator")
"""Knobs that the search may set; what the user gave stays. None of them changes what is learned, to rounding."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A recipe with its price."""

    recipe: Recipe
    estimate: Estimate
    time: TimeEstimate

    @property
    def fits(self) -> bool:
        """Within the budget by the high estimate."""
        return self.estimate.fits

    @property
    def required_bytes(self) -> int:
        """The high estimate of its peak."""
        return self.estimate.peak.required_bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """What a plan is wanted for. `start` holds the given knobs and defaults; `given` names the given ones."""

    situation: Situation
    start: Recipe
    given: frozenset[str]
    schedule: Schedule
    lengths: TokenLengths | None
    rates: Mapping[Allocator, Rates]


@dataclass(frozen=True, slots=True)
class Found:
    """All priced candidates, and the chosen one: the fastest that fits, or the one that misses by least."""

    candidates: tuple[Candidate, ...]
    chosen: Candidate


def search(task: Task, progress: Progress | None = None) -> Found:
    """Price every combination of the floating knobs and choose.

    Raises LplanError when the libraries refuse every combination.
    """
    recipes = list(dict.fromkeys(_recipes(task)))
    answers = footprints(
        task.situation.model, [(recipe, shape_of(recipe)) for recipe in recipes], progress=progress
    )
    task = replace(task, situation=replace(task.situation, baseline=baseline()))
    candidates = tuple(_priced(task, recipes, answers))
    if not candidates:
        raise next((answer for answer in answers if isinstance(answer, LplanError)), not_chunkable())
    return Found(candidates, choose(candidates))


def choose(candidates: Sequence[Candidate]) -> Candidate:
    """The fastest that fits, the smallest of equally fast ones; if none fits, the one that needs least."""
    fitting = [candidate for candidate in candidates if candidate.fits]
    if not fitting:
        return min(candidates, key=lambda c: c.required_bytes)
    fastest_s = min(candidate.time.step_s for candidate in fitting)
    equal = [c for c in fitting if c.time.step_s <= fastest_s * (1 + EQUALLY_FAST)]
    return min(equal, key=lambda c: (c.required_bytes, c.time.step_s))


def _recipes(task: Task) -> Iterator[Recipe]:
    choices = {knob: _values(task, knob) for knob in FLOATING}
    for values in product(*choices.values()):
        knobs: dict[str, Any] = dict(zip(choices, values, strict=True))
        batch = knobs["batch_size"]
        if "accumulation" not in task.given:
            knobs["accumulation"] = max(1, task.start.effective_batch // batch)
        yield replace(task.start, **knobs)


def _values(task: Task, knob: str) -> Iterable[Any]:
    start = task.start
    if knob in task.given:
        return (getattr(start, knob),)
    if knob == "batch_size":
        return (start.batch_size,) if "accumulation" in task.given else _divisors(start.effective_batch)
    if knob == "precision":
        return ("bf16",) if bf16_is_better(task) else ("bf16", "fp32")
    if knob == "checkpointing":
        return ("none", "full")
    if knob == "loss":
        return ("full", "supervised", "chunked")
    if knob == "input_casting":
        return (False,) if start.adapts and start.adapter_dtype == "fp32" else (True,)
    if knob == "optimizer":
        return ("adamw-fused",)
    return ("pinned", "default")


def bf16_is_better(task: Task) -> bool:
    """Whether bf16 wins in time as it does in memory, by the measured matrix products: then fp32 need not be priced."""
    width = hidden_size(task.situation.model.config)
    rates = task.rates["pinned"]
    rows = task.start.batch_size * task.start.seq_len
    return rates.matmul("bfloat16", width, rows) > rates.matmul("float32", width, rows)


def _divisors(number: int) -> tuple[int, ...]:
    return tuple(n for n in range(1, number + 1) if number % n == 0)


def _priced(
    task: Task, recipes: Sequence[Recipe], answers: Sequence[Footprint | LplanError]
) -> Iterator[Candidate]:
    width = hidden_size(task.situation.model.config)
    for recipe, answer in zip(recipes, answers, strict=True):
        if isinstance(answer, LplanError) or (recipe.loss == "chunked" and not answer.chunkable):
            continue
        estimate = make_estimate(recipe, answer, task.situation)
        rates = task.rates[recipe.allocator]
        yield Candidate(
            recipe, estimate, predict_time(recipe, answer, rates, task.lengths, task.schedule, width)
        )


def hidden_size(config: Mapping[str, Any]) -> int:
    """The width of a model's hidden states, whatever its config.json calls it."""
    for name in ("hidden_size", "n_embd", "d_model", "dim"):
        if isinstance(config.get(name), int):
            return int(config[name])
    return 1024
