"""The fastest recipe that fits: every allowed combination of knobs is priced, none is guessed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from ..profiles.errors import LplanError
from .estimate import Estimate
from .estimating import make_estimate, shape_of
from .floating import FLOATING, hidden_size, values
from .footprint import Footprint
from .plan import TimeEstimate
from .recipe import Recipe
from .request import not_chunkable
from .task import Task
from .timing import predict_time
from .tracer import Progress, baseline, footprints

EQUALLY_FAST = 0.05
"""Predicted times closer than this are taken as equal: the time model is not that exact."""


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
    candidates, refusals = price_all(task, recipes, progress)
    if task.start.device == "cuda" and "allocator" not in task.given and not any(c.fits for c in candidates):
        tighter, _ = price_all(task, [replace(recipe, allocator="expandable") for recipe in recipes])
        candidates += tighter
    if not candidates:
        raise next(iter(refusals), not_chunkable())
    return Found(tuple(candidates), choose(candidates))


def price_all(
    task: Task, recipes: Sequence[Recipe], progress: Progress | None = None
) -> tuple[list[Candidate], list[LplanError]]:
    """Every recipe that the libraries accept with its price, in order, and why the others are refused."""
    answers = footprints(
        task.situation.model, [(recipe, shape_of(recipe)) for recipe in recipes], progress=progress
    )
    task = replace(task, situation=replace(task.situation, baseline=baseline()))
    return list(_priced(task, recipes, answers)), [a for a in answers if isinstance(a, LplanError)]


def choose(candidates: Sequence[Candidate]) -> Candidate:
    """The fastest that fits, the smallest of equally fast ones; if none fits, the one that needs least."""
    fitting = [candidate for candidate in candidates if candidate.fits]
    if not fitting:
        return min(candidates, key=lambda c: c.required_bytes)
    fastest_s = min(candidate.time.step_s for candidate in fitting)
    equal = [c for c in fitting if c.time.step_s <= fastest_s * (1 + EQUALLY_FAST)]
    return min(equal, key=lambda c: (c.required_bytes, c.time.step_s))


def _recipes(task: Task) -> Iterator[Recipe]:
    choices = {knob: values(task, knob) for knob in FLOATING}
    for combination in product(*choices.values()):
        knobs: dict[str, Any] = dict(zip(choices, combination, strict=True))
        batch = knobs["batch_size"]
        if "accumulation" not in task.given:
            knobs["accumulation"] = max(1, task.start.effective_batch // batch)
        yield replace(task.start, **knobs)


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
