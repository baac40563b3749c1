"""A plan is a promise about one model, one data set and one set of versions: it is kept or refused."""

from __future__ import annotations

from dataclasses import replace

from ..profiles.errors import LplanError
from ..profiles.model import ModelProfile
from .documents import changes_since
from .plan import DataReference, Plan
from .versions import stack_versions


def require_unchanged(plan: Plan, model: ModelProfile, data: DataReference) -> Plan:
    """The plan, with the model's files as they are here. Raises LplanError that says what has changed."""
    changed = changes_since(plan, model, data.fingerprint, stack_versions())
    if changed:
        raise LplanError(f"since the plan was made there changed: {', '.join(changed)}", hint="plan again")
    return replace(plan, estimate=replace(plan.estimate, model=model))
