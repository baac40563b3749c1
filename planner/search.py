"""The fastest recipe that fits: every allowed combination of knobs is priced, none is guessed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from ..profiles.errors import LplanError
from .estimate import Estimate
from .estimating import Situation, make_estimate, shape_of
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
    answers = price_all(task, recipes, progress)
    candidates = [answer for answer in answers if isinstance(answer, Candidate)]
    if task.start.device == "cuda" and "allocator" not in task.given and not any(c.fits for c in candidates):
        tighter = price_all(task, [replace(recipe, allocator="expandable") for recipe in recipes])
        candidates += [answer for answer in tighter if isinstance(answer, Candidate)]
    if not candidates:
        raise next(answer for answer in answers if isinstance(answer, LplanError))
    return Found(tuple(candidates), choose(candidates))


def price_all(
    task: Task, recipes: Sequence[Recipe], progress: Progress | None = None
) -> list[Candidate | LplanError]:
    """Each recipe with its price, or why it is refused, in order."""
    width = hidden_size(task.situation.model.config)
    found: list[Candidate | LplanError] = []
    for recipe, answer in zip(recipes, estimate_all(task.situation, recipes, progress), strict=True):
        if isinstance(answer, LplanError):
            found.append(answer)
            continue
        footprint, estimate = answer
        rates = task.rates[recipe.allocator]
        time = predict_time(recipe, footprint, rates, task.lengths, task.schedule, width)
        found.append(Candidate(recipe, estimate, time))
    return found


def estimate_all(
    situation: Situation, recipes: Sequence[Recipe], progress: Progress | None = None
) -> list[tuple[Footprint, Estimate] | LplanError]:
    """Each recipe's footprint and estimate, or why it is refused, in order: one tracing process at most."""
    requests = [(recipe, shape_of(recipe)) for recipe in recipes]
    answers = footprints(situation.model, requests, progress=progress)
    situation = replace(situation, baseline=baseline())
    return [_estimated(r, answer, situation) for r, answer in zip(recipes, answers, strict=True)]


def _estimated(
    recipe: Recipe, answer: Footprint | LplanError, situation: Situation
) -> tuple[Footprint, Estimate] | LplanError:
    if isinstance(answer, LplanError):
        return answer
    if recipe.loss == "chunked" and not answer.chunkable:
        return not_chunkable()
    return answer, make_estimate(recipe, answer, situation)


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
