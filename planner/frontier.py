"""Memory against time: the recipes that no other one beats in both, and what another budget would buy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import inf
from typing import Any

from ..profiles.errors import DoesNotFitError
from ..profiles.units import format_size
from .pricer import Bound, Candidate, Pricer
from .recipe import Recipe
from .search import ascending, search, tracing
from .space import space
from .task import Task
from .tracer import Progress


@dataclass(frozen=True, kw_only=True, slots=True)
class Option:
    """A priced recipe. `required_bytes` is the high estimate of its peak; `total_s` of the whole run."""

    recipe: Recipe
    budget_bytes: int
    required_bytes: int
    fits: bool
    step_s: float
    tokens_per_s: float
    total_s: float

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        figures = ("budget_bytes", "required_bytes", "fits", "step_s", "tokens_per_s", "total_s")
        return {**{name: getattr(self, name) for name in figures}, "recipe": self.recipe.to_dict()}


def pareto(task: Task, progress: Progress | None = None) -> list[Option]:
    """The frontier over the whole space, the fastest first: each needs less memory than all that are faster."""
    found: list[Option] = []
    least_bytes: float = inf

    def beaten(bound: Bound) -> bool:
        return bound.least_bytes >= least_bytes

    with tracing(task, progress) as footprints:
        pricer = Pricer(task, footprints)
        recipes = list(dict.fromkeys(space(task)))
        for recipe, _ in ascending(pricer, recipes, lambda bound: bound.least_s, beaten):
            candidate = pricer.price(recipe)
            if isinstance(candidate, Candidate) and candidate.required_bytes < least_bytes:
                least_bytes = candidate.required_bytes
                while found and found[-1].step_s >= candidate.time.step_s:
                    found.pop()
                found.append(option(candidate))
    return found


def what_if(
    task: Task, more_bytes: Sequence[int], progress: Progress | None = None
) -> list[tuple[int, Option]]:
    """The best plan with so many bytes more (or less, if negative) than the budget, for each.

    Raises DoesNotFitError where nothing would be left.
    """
    found = []
    for more in more_bytes:
        budget = task.situation.budget
        if budget.budget_bytes + more <= 0:
            raise DoesNotFitError(
                f"{format_size(-more)} less than {format_size(budget.budget_bytes)} is nothing",
                hint="ask --what-if for less",
            )
        other = replace(budget, budget_bytes=budget.budget_bytes + more)
        situation = replace(task.situation, budget=other)
        found.append((more, option(search(replace(task, situation=situation), progress).chosen)))
    return found


def option(candidate: Candidate) -> Option:
    """A candidate's figures."""
    return Option(
        recipe=candidate.recipe,
        budget_bytes=candidate.estimate.budget.budget_bytes,
        required_bytes=candidate.required_bytes,
        fits=candidate.fits,
        step_s=candidate.time.step_s,
        tokens_per_s=candidate.time.tokens_per_s,
        total_s=candidate.time.total_s,
    )
