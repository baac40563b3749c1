"""A plan is a promise about one model, one data set and one set of versions: it is kept or refused."""

from __future__ import annotations

from dataclasses import replace

from ..profiles.budget import decide_budget
from ..profiles.errors import DoesNotFitError, LplanError
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


def require_memory(plan: Plan) -> None:
    """Raises DoesNotFitError for a plan beyond its own budget, or beyond this machine's own limits."""
    estimate = plan.estimate
    if not estimate.fits:
        raise DoesNotFitError("the plan does not fit its own budget", hint="plan again with a larger --ram")
    require_packages(plan.recipe)
    here = _budget_here(estimate.budget)
    if estimate.peak.required_bytes > here.budget_bytes:
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
