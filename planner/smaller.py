"""A plan whose run ran out of memory, made smaller by what was measured; what is learned stays the same."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace
from itertools import product

from ..profiles.errors import LplanError
from ..profiles.units import format_size
from .estimate import Estimate, with_rehearsal
from .estimating import Situation
from .plan import Decision, Plan
from .recipe import Recipe
from .search import estimate_all
from .tracer import baseline

_CHECKPOINTING = ("none", "every-2", "full")
_LOSSES = ("full", "supervised", "chunked")
_LEAST_EXCESS = 0.05
"""A kill tells only that more was needed than there was: by so much of the budget, each time, at least."""


def smaller_plan(plan: Plan, *, phase: str | None, tried: Collection[Recipe], attempt: int) -> Plan | None:
    """The largest plan not tried yet that fits with what attempt number `attempt` needed beyond its estimate.

    Micro batch, checkpointing and loss path may change, the effective batch and its samples don't. None when
    nothing needs less in the phase that failed. Raises LplanError when nothing can be traced.
    """
    before, budget_bytes = plan.estimate, plan.estimate.budget.budget_bytes
    excess = max(0, int(budget_bytes * (1 + _LEAST_EXCESS * attempt)) - before.peak.peak.expected_bytes)
    situation = Situation(
        model=before.model, hardware=before.hardware, budget=before.budget, baseline=baseline(),
        versions=before.versions,
    )  # fmt: skip
    recipes = [recipe for recipe in _leaner(plan.recipe) if recipe not in tried]
    found = [answer[1] for answer in estimate_all(situation, recipes) if not isinstance(answer, LplanError)]
    found = [estimate for estimate in found if _needed(estimate, phase) < _needed(before, phase)]
    if not found:
        return None
    fitting = [e for e in found if e.peak.required_bytes + excess <= budget_bytes]
    chosen = (
        max(fitting, key=lambda e: e.peak.required_bytes)
        if fitting
        else min(found, key=lambda e: e.peak.required_bytes)
    )
    why = f"attempt {attempt} needed at least {format_size(excess)} more than its plan"
    recipe = chosen.recipe
    value = f"{recipe.batch_size} × {recipe.accumulation}, checkpointing {recipe.checkpointing}, {recipe.loss} loss"
    decision = Decision(knob="after running out of memory", value=value, reason=why)
    return replace(plan, recipe=recipe, estimate=chosen, decisions=(*plan.decisions, decision))


def _needed(estimate: Estimate, phase: str | None) -> int:
    phases = with_rehearsal(estimate.phases)
    return max(one.required_bytes for one in [p for p in phases if p.name == phase] or phases)


def _leaner(recipe: Recipe) -> Iterator[Recipe]:
    batches = [n for n in range(1, recipe.batch_size + 1) if recipe.batch_size % n == 0]
    for batch, checkpointing, loss in product(batches, _CHECKPOINTING, _LOSSES):
        knobs = {"batch_size": batch, "accumulation": recipe.effective_batch // batch}
        try:
            yield replace(recipe, **knobs, checkpointing=checkpointing, loss=loss)  # type: ignore[arg-type]
        except LplanError:
            continue
