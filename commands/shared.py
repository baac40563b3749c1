"""What the commands have in common: from flags to a task, a data set and a plan; where output goes."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from ..profiles.errors import DoesNotFitError
from ..profiles.units import format_size

if TYPE_CHECKING:
    from rich.console import Console

    from ..planner.estimating import Situation
    from ..planner.plan import Plan
    from ..planner.request import Request
    from ..planner.task import Task
    from ..planner.tracer import Progress
    from ..trainer.prepare import Prepared

MEASURING = "measuring this machine and tracing the model (kept for the next time)"


def wanted(
    model: str, trust_remote_code: bool, asked: Mapping[str, Any], *, for_run: bool = False
) -> tuple[Request, Situation, Prepared | None]:
    """What was asked for and its data; cheap refusals come first, downloads last."""
    from ..planner.planning import require_planned
    from ..planner.setting import understand
    from ..profiles.budget import kept_free
    from ..trainer.prepare import prepare_data, usual_values
    from ..trainer.weights import with_weights

    usual = usual_values(asked["task"])
    request, situation = understand(
        model, asked, usual=usual, trust_remote_code=trust_remote_code, for_run=for_run
    )
    require_planned(request.recipe)
    situation = replace(situation, budget=kept_free(situation.budget, asked.get("safety")))
    data = None
    if asked["data"]:
        data = prepare_data(asked["data"], situation.model, task=asked["task"], max_length=asked["seq_len"])
        situation = replace(situation, texts=data.texts)
    if for_run and request.recipe.init != "random":
        situation = replace(situation, model=with_weights(situation.model))
    return request, situation, data


def planned(
    model: str, trust_remote_code: bool, asked: Mapping[str, Any], *, for_run: bool = False
) -> tuple[Task, Plan, Prepared | None]:
    """The plan for what was asked; measurements come last."""
    from ..planner.aim import make_aim
    from ..planner.floating import FLOATING
    from ..planner.planning import plan_for

    aim = make_aim(asked["objective"], asked["keep"], asked["allow"], FLOATING)
    request, situation, data = wanted(model, trust_remote_code, asked, for_run=for_run)
    lengths, reference = (data.lengths, data.reference) if data is not None else (None, None)
    with patience(MEASURING) as progress:
        task, plan = plan_for(request, situation, lengths=lengths, data=reference, aim=aim, progress=progress)
    return task, plan, data


def show_plan(task: Task | None, result: Plan, console: Console | None, price: float | None = None) -> None:
    """Show a plan. Raises DoesNotFitError when it does not fit, after showing the closest and what would help."""
    from ..planner.planning import misses_bytes, what_would_help
    from ..report.plan import no_plan_view, plan_view

    if result.estimate.fits:
        if console is not None:
            console.print(plan_view(result, price))
        return
    advice = what_would_help(task, result) if task is not None else ()
    if console is not None:
        console.print(no_plan_view(result, misses_bytes(result), advice))
    budget, misses = result.estimate.budget.budget_bytes, misses_bytes(result)
    raise DoesNotFitError(
        f"no plan fits {format_size(budget)}: the closest misses by {format_size(misses)}",
        hint=f"it would take {advice[0]}" if advice else "plan again with a larger --ram",
    )


@contextmanager
def patience(text: str, unit: str = "graphs") -> Iterator[Progress | None]:
    """Where someone watches: what is going on, and how far it is."""
    if not sys.stderr.isatty():
        yield None
        return
    with console(stderr=True).status(text) as status:
        yield lambda done, of: status.update(f"{text}: {done} of {of} {unit}")


def console(*, stderr: bool = False) -> Console:
    from rich.console import Console

    return Console(stderr=stderr, highlight=False)


def print_json(document: Mapping[str, Any]) -> None:
    click.echo(json.dumps(document, indent=1))
