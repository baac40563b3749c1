"""How likely a run stays within its budget."""

from __future__ import annotations

from ..profiles.hardware import Budget
from .estimate import Estimate, PhaseEstimate
from .heap import doubt
from .residuals import residuals


def chance_to_fit(estimate: Estimate, budget: Budget | None = None) -> float:
    """The chance, 0 to 1, that no phase exceeds the budget (the estimate's own unless another is given).

    From how far measured runs of the kind lay from their estimates (planner/intervals.toml). Phases err together, so
    the worst of them decides. An estimate whose high peak fits has at least 0.975.
    """
    limit = (budget or estimate.budget).budget_bytes
    on_heap = estimate.recipe.device == "cpu" and estimate.recipe.allocator == "default"
    if on_heap:
        return min(_chance_on_the_heap(phase, limit) for phase in estimate.phases)
    gpu = estimate.hardware.gpus[0] if estimate.recipe.device == "cuda" else None
    known = residuals(estimate.recipe, gpu)
    least = min(limit - phase.peak.expected_bytes + phase.reclaimable_bytes for phase in estimate.phases)
    expected = limit - least
    return known.below(least / (max(1, expected) * known.stretch(expected)))


def _chance_on_the_heap(phase: PhaseEstimate, limit_bytes: int) -> float:
    """Under glibc's default allocator a range is as wide as the heap's doubt, which is no share of the peak."""
    known = doubt()
    half = phase.peak.high_bytes - phase.peak.expected_bytes
    room = limit_bytes - phase.peak.expected_bytes + phase.reclaimable_bytes
    return known.below(room / max(1, half) * known.spread().above)
