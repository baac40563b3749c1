"""`lplan explain`: the walk from full fine-tuning down to the plan."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from ..options import AIM, DATA, JSON, KNOBS, MACHINE, MODEL
from .shared import console, patience, planned, print_json


@click.command("explain")
@MODEL
@DATA
@MACHINE
@KNOBS
@AIM
@click.option("--svg", type=click.Path(path_type=Path), metavar="FILE", help="Also as a picture.")
@JSON
def explain_plan(model: str, trust_remote_code: bool, svg: Path | None, as_json: bool, **asked: Any) -> None:
    """Walk from full fine-tuning in fp32 down to the plan: what each measure saves and costs."""
    from ..planner.walk import walk
    from ..report.walk import save_svg, walk_view

    task, chosen, _ = planned(model, trust_remote_code, asked)
    with patience("tracing the model") as progress:
        measures = walk(task, chosen.recipe, progress)
    if as_json:
        rows = [asdict(measure) for measure in measures]
        print_json({"schema": "lplan.explain/1", "model": chosen.estimate.model.id, "measures": rows})
        return
    view = walk_view(chosen.estimate.model.id, measures, chosen.estimate.budget.budget_bytes)
    console().print(view)
    if svg is not None:
        save_svg(view, svg)
