"""`lplan evaluate`: what a run has learned, and what it forgot."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..options import JSON, Size
from ..planner.evaluation import MAX_FORGETTING
from ..profiles.units import format_size
from .shared import console, print_json

if TYPE_CHECKING:
    from ..planner.events import Event


_DOING = {
    "load": "loading the model",
    "evaluation": "asking the same questions before and after; that takes minutes on a CPU",
}


@click.command("evaluate")
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--samples", type=click.IntRange(min=1), help="Held-out examples, evenly spread. Default: all.")
@click.option("--generated", is_flag=True, help="Also count generated answers, letter by letter.")
@click.option(
    "--max-forgetting", type=click.FloatRange(0, 1), default=MAX_FORGETTING, show_default=True,
    help="Share of general knowledge that may be lost without a warning.",
)  # fmt: skip
@click.option(
    "--ram", type=Size(), help="Memory it may use. Default: the budget that the run was trained in."
)
@JSON
def evaluate(
    run: Path, samples: int | None, generated: bool, max_forgetting: float, ram: int | None, as_json: bool
) -> None:
    """Evaluate a run, before and after. Held-out loss, task answers, general knowledge and speed."""
    from ..planner.events import Phase, PhasePeak, Start
    from ..report.evaluation import evaluation_view
    from ..report.wording import enforcement
    from ..trainer.evaluation.of_run import Wanted
    from ..trainer.limited_evaluation import evaluate_limited

    talk = console(stderr=True)

    status = talk.status("starting")

    def tell(event: Event) -> None:
        if isinstance(event, Start):
            talk.print(
                f"within {format_size(event.budget_bytes)}, {enforcement(event.limiter)}", markup=False
            )
        elif isinstance(event, Phase):
            status.update(_DOING.get(event.name, event.name))
        elif isinstance(event, PhasePeak):
            talk.print(f"{event.name} reached {format_size(event.measured_bytes)}", markup=False)

    wanted = Wanted(samples=samples, generated=generated, max_forgetting=max_forgetting)
    with status if talk.is_terminal else nullcontext():
        evaluated = evaluate_limited(run, wanted, ram, tell)
    if as_json:
        print_json(evaluated.document())
    else:
        console().print(evaluation_view(evaluated))
