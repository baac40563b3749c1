"""The fastest recipe that fits: every allowed combination of knobs is priced, none is guessed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from heapq import heappop, heappush
from math import inf

from ..profiles.errors import LplanError
from .aim import Change
from .estimate import Estimate
from .estimating import Situation, make_estimate, shape_of
from .floating import FLOATING, hidden_size
from .footprint import Footprint
from .pricer import Bound, Candidate, Pricer
from .recipe import Recipe
from .request import not_chunkable
from .space import Tier, space, tiers
from .task import Task
from .timing import predict_time
from .tracer import Footprints, Progress, baseline, footprints
from .tracing_process import several

EQUALLY_FAST = 0.02
"""Predicted times closer than this are taken as equal, and less memory decides. Two recipes of one model are told apart
better than the time of either is known; 0.05 gave away measured speed (docs/log.md, 27 November 2026)."""


@dataclass(frozen=True, slots=True)
class Found:
    """The chosen candidate: the best that fits, or the one that misses by least; and what was priced on the way.

    `bounds` says of the recipes it was chosen from what they need at least. `task` is the one that it answers: the
    user's, but for `changes`.
    """

    candidates: tuple[Candidate, ...]
    chosen: Candidate
    bounds: Mapping[Recipe, Bound]
    task: Task
    changes: tuple[Change, ...] = ()


def search(task: Task, progress: Progress | None = None) -> Found:
    """The best recipe for the task's aim, exactly, though few are priced: bounds rule the others out.

    Raises LplanError when the libraries refuse every combination.
    """
    with tracing(task, progress) as footprints:
        pricer = Pricer(task, footprints)
        for tier in tiers(task):
            pricer = pricer if tier.task is pricer.task else Pricer(tier.task, footprints)
            best = _BEST.get(task.aim.objective, fastest)(pricer, tier.recipes)
            if best is not None and best.fits:
                return _explained(pricer, best, tier)
        *_, tier = (tier for tier in tiers(task) if not tier.changes)
        recipes = tuple(recipe for one in tiers(tier.task) if not one.changes for recipe in one.recipes)
        pricer = Pricer(tier.task, footprints)
        return _explained(pricer, _closest(pricer, recipes), replace(tier, recipes=recipes))


@contextmanager
def tracing(task: Task, progress: Progress | None) -> Iterator[Footprints]:
    """Footprints of the task's model, with the graphs of its space as the number that progress is told of."""
    graphs = 1 if progress is None else len({several(recipe).graph() for recipe in space(task)})
    told = None if progress is None else lambda done: progress(done, max(done, graphs))
    with Footprints(task.situation.model, told) as footprints:
        yield footprints


def fastest(pricer: Pricer, recipes: Sequence[Recipe]) -> Candidate | None:
    """The fastest that fits, the smallest of equally fast ones; None where none fits.

    Recipes come in order of the least time they can take, so once one fits, only those that may be as fast are left.
    """
    best: Candidate | None = None
    fastest_s = inf
    most = pricer.task.situation.budget.budget_bytes

    def too_large(bound: Bound) -> bool:
        return bound.least_bytes > (most if best is None else best.required_bytes)

    for recipe, bound in ascending(pricer, recipes, lambda bound: bound.least_s, too_large):
        if bound.least_s > fastest_s * (1 + EQUALLY_FAST):
            break
        candidate = pricer.price(recipe)
        if isinstance(candidate, Candidate) and candidate.fits:
            fastest_s = min(fastest_s, candidate.time.step_s)
            best = candidate if best is None else min(best, candidate, key=_size)
    return best


def leanest(pricer: Pricer, recipes: Sequence[Recipe]) -> Candidate | None:
    """The one that needs least, the fastest of those; None where the libraries refuse every recipe."""
    best: Candidate | None = None
    for recipe, bound in ascending(pricer, recipes, lambda bound: bound.least_bytes):
        if best is not None and bound.least_bytes > best.required_bytes:
            break
        candidate = pricer.price(recipe)
        if isinstance(candidate, Candidate):
            best = candidate if best is None else min(best, candidate, key=_size)
    return best


_BEST = {"least-memory": leanest}


def _closest(pricer: Pricer, recipes: Sequence[Recipe]) -> Candidate:
    best = leanest(pricer, recipes)
    if best is None:
        raise next(filter(None, map(pricer.refused, recipes)))
    return best


def _size(candidate: Candidate) -> tuple[int, float]:
    return candidate.required_bytes, candidate.time.step_s


def ascending(
    pricer: Pricer,
    recipes: Sequence[Recipe],
    key: Callable[[Bound], float],
    hopeless: Callable[[Bound], bool] = lambda _: False,
) -> Iterator[tuple[Recipe, Bound]]:
    """Recipes whose graph is known by their bound, the least first; graphs are traced when their turn comes.

    What is hopeless then is left out, and not traced for.
    """
    heap: list[tuple[float, int, bool]] = []
    for number, recipe in enumerate(recipes):
        _push(heap, pricer.bound(recipe), number, key)
    while heap:
        least, number, traced = heappop(heap)
        bound = pricer.bound(recipes[number])
        if isinstance(bound, LplanError) or hopeless(bound):
            continue
        if traced:
            yield recipes[number], bound
            continue
        if not bound.traced and key(bound) <= least:
            pricer.learn(recipes[number], _ahead(pricer, recipes, recipes[number], heap, hopeless))
            bound = pricer.bound(recipes[number])
        _push(heap, bound, number, key)


def _ahead(
    pricer: Pricer,
    recipes: Sequence[Recipe],
    recipe: Recipe,
    heap: Sequence[tuple[float, int, bool]],
    hopeless: Callable[[Bound], bool],
) -> Recipe | None:
    """The next in line of which the recipe's own trace will tell nothing."""
    first = pricer.unknown(recipe)
    for _, number, _ in sorted(heap):
        bound = pricer.bound(recipes[number])
        if isinstance(bound, LplanError) or bound.traced or hopeless(bound):
            continue
        other = pricer.unknown(recipes[number])
        if other.graph() != first.graph() and not (bound.least_s == 0 and _alike_but_for_loss(other, first)):
            return recipes[number]
    return None


def _alike_but_for_loss(one: Recipe, other: Recipe) -> bool:
    return replace(one, loss=other.loss).graph() == other.graph()


def _push(
    heap: list[tuple[float, int, bool]],
    bound: Bound | LplanError,
    number: int,
    key: Callable[[Bound], float],
) -> None:
    if isinstance(bound, Bound):
        heappush(heap, (key(bound), number, bound.traced))


def _explained(pricer: Pricer, best: Candidate, tier: Tier) -> Found:
    """With what is known of the others; on a CPU an exact price of a neighbour costs nothing."""
    bounds = {recipe: bound for recipe in tier.recipes if isinstance(bound := pricer.bound(recipe), Bound)}
    for recipe, bound in bounds.items():
        if recipe.device == "cpu" and bound.traced and len(differing(recipe, best.recipe)) == 1:
            pricer.price(recipe)
    return Found(tuple(pricer.priced()), best, bounds, pricer.task, tier.changes)


def differing(one: Recipe, other: Recipe) -> set[str]:
    """The knobs in which two recipes of one search differ; the accumulation follows the batch."""
    return {knob for knob in FLOATING if getattr(one, knob) != getattr(other, knob)}


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
    if recipe.cuts_logits and not answer.chunkable:
        return not_chunkable()
    return answer, make_estimate(recipe, answer, situation)
