"""From a task to a plan: search, decide, and say what would help when nothing fits."""

from __future__ import annotations

from dataclasses import replace

from ..profiles.units import format_size
from .deciding import decide
from .plan import DataReference, Plan
from .search import Candidate, Found, Task, search
from .tracer import Progress


def make_plan(task: Task, data: DataReference | None, progress: Progress | None = None) -> Plan:
    """The fastest plan that fits, or the closest one (`plan.estimate.fits` says which)."""
    found = search(task, progress)
    return _plan(task, found, data)


def _plan(task: Task, found: Found, data: DataReference | None) -> Plan:
    return Plan(
        recipe=found.chosen.recipe,
        schedule=task.schedule,
        estimate=found.chosen.estimate,
        decisions=decide(task, found),
        time=found.chosen.time,
        data=data,
    )


def price(task: Task) -> Candidate:
    """The start recipe alone, with its estimate and time."""
    fixed = replace(task, given=frozenset(task.start.to_dict()))
    return search(fixed).chosen


def misses_bytes(plan: Plan) -> int:
    """By how much a plan's high estimate exceeds its budget."""
    return plan.estimate.peak.required_bytes - plan.estimate.budget.budget_bytes


def what_would_help(plan: Plan) -> tuple[str, ...]:
    """Changes that bring the closest plan towards the budget, in order of what they cost the result."""
    recipe, peak = plan.recipe, plan.estimate.peak
    budget = peak.required_bytes
    advice = [f"a budget of {format_size(budget)} (--ram {-(-budget // 2**20)}M)"]
    parts = peak.components
    if (
        parts.get("activations", 0) + parts.get("logits and loss", 0) > misses_bytes(plan)
        and recipe.seq_len > 64
    ):
        advice.append(
            f"shorter sequences: --seq-len {max(64, recipe.seq_len // 2)} (cuts the longest samples)"
        )
    if recipe.method == "full":
        advice.append("LoRA instead of full fine-tuning: --method lora")
    if parts.get("weights", 0) > plan.estimate.budget.budget_bytes // 2:
        advice.append("a smaller model: lplan models lists them")
    return tuple(advice)
