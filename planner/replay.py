"""A plan is a promise about one model, one data set and one set of versions: it is kept or refused."""

from __future__ import annotations

from dataclasses import replace

from ..profiles.budget import decide_budget
from ..profiles.errors import DoesNotFitError, LplanError, UsageError
from ..profiles.hardware import Budget
from ..profiles.machine import this_machine
from ..profiles.model import ModelProfile
from ..profiles.units import format_size
from .documents import changes_since
from .packages import require_packages
from .plan import DataReference, Plan
from .versions import stack_versions


def require_unchanged(plan: Plan, model: ModelProfile, data: DataReference) -> Plan:
    """The plan, with the model's files and the data as they are here. Raises LplanError that says what has changed."""
    changed = changes_since(plan, model, data.fingerprint, stack_versions())
    if changed:
        raise LplanError(f"since the plan was made there changed: {', '.join(changed)}", hint="plan again")
    return replace(plan, data=data, estimate=replace(plan.estimate, model=model))


def within(plan: Plan, ram_bytes: int) -> Plan:
    """The plan held to so much of this machine's memory. Raises UsageError for a plan for a GPU."""
    if plan.recipe.device != "cpu":
        raise UsageError("--ram does not go with a run on a GPU", hint="leave it out")
    budget = decide_budget(replace(this_machine(), device="cpu"), ram_bytes=ram_bytes, for_run=True)
    return replace(plan, estimate=replace(plan.estimate, budget=budget))


def require_memory(plan: Plan, *, known_to_be_tight: bool = False) -> None:
    """Raises DoesNotFitError for a plan beyond its own budget, or beyond this machine's own limits.

    One that is `known_to_be_tight` may be beyond its own budget: nothing that needs less is known.
    """
    estimate = plan.estimate
    if not estimate.fits and not known_to_be_tight:
        raise DoesNotFitError(
            f"the plan needs {format_size(estimate.peak.required_bytes)} and does not fit its own budget of "
            f"{format_size(estimate.budget.budget_bytes)}",
            hint="say a larger --ram",
        )
    require_packages(plan.recipe)
    here = _budget_here(estimate.budget)
    if estimate.fits and estimate.peak.required_bytes > here.budget_bytes:
        raise DoesNotFitError(
            f"the plan needs {format_size(estimate.peak.required_bytes)} here, but {here.reason}",
            hint="plan again on this machine",
        )


def _budget_here(planned: Budget) -> Budget:
    """What this machine would give a run that was planned for so many bytes of its CPU's or its GPU's memory."""
    hardware = replace(this_machine(), device=planned.device)
    if planned.device == "cuda":
        return decide_budget(hardware, vram_bytes=planned.budget_bytes, for_run=True)
    return decide_budget(hardware, ram_bytes=planned.budget_bytes, for_run=True)
