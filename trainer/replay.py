"""A plan file, its model and its data, ready to run as promised; or refused, with what is different."""

from __future__ import annotations

from pathlib import Path

from ..planner.documents import read_plan
from ..planner.plan import Plan
from ..planner.replay import require_memory, require_unchanged
from ..profiles.errors import LplanError, UsageError
from ..profiles.find import find_model
from .prepare import Prepared, prepare_data
from .weights import with_weights


def replay(
    path: Path, model: str | None = None, location: str | None = None, *, trust: bool = False
) -> tuple[Plan, Prepared | None]:
    """The plan of a file with its data; `model` and `location` name the two where they have moved.

    Raises UsageError, LplanError or DoesNotFitError for a plan that cannot be kept here.
    """
    plan = read_plan(path)
    if plan.data is None:
        raise UsageError(f"{path} was made without data", hint="plan again with --data")
    found = find_model(model, trust_remote_code=trust) if model else plan.estimate.model
    if found.trust_remote_code and not trust:
        raise UsageError(
            f"{path} runs the model's own Python code", hint="read that code, then add --trust-remote-code"
        )
    if isinstance(found.location, Path) and not found.location.is_dir():
        raise LplanError(
            f"the model folder {found.location} is gone", hint="say where it is now: --model DIR"
        )
    require_memory(plan)
    data = prepare_data(
        location or plan.data.location, found, task=plan.data.task, max_length=plan.data.longest_tokens
    )
    if plan.recipe.init != "random":
        found = with_weights(found)
    return require_unchanged(plan, found, data.reference), data
