"""`lplan evaluate`: what a run has learned, and what it forgot."""

from __future__ import annotations

from pathlib import Path

import click

from ..options import JSON
from ..planner.evaluation import MAX_FORGETTING
from .shared import console, print_json


@click.command("evaluate")
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--samples", type=click.IntRange(min=1), help="Held-out examples, evenly spread. Default: all.")
@click.option("--generated", is_flag=True, help="Also count generated answers, letter by letter.")
@click.option(
    "--max-forgetting", type=click.FloatRange(0, 1), default=MAX_FORGETTING, show_default=True,
    help="Share of general knowledge that may be lost without a warning.",
)  # fmt: skip
@JSON
def evaluate(run: Path, samples: int | None, generated: bool, max_forgetting: float, as_json: bool) -> None:
    """Evaluate a run: held-out loss, task answers, general knowledge and speed, before and after."""
    from ..report.evaluation import evaluation_view
    from ..trainer.evaluation.of_run import Wanted, evaluate_run
    from ..trainer.quiet import quiet

    quiet()
    wanted = Wanted(samples=samples, generated=generated, max_forgetting=max_forgetting)
    evaluated = evaluate_run(run, wanted)
    if as_json:
        print_json(evaluated.document())
    else:
        console().print(evaluation_view(evaluated))
