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
@click.option("--svg", type=click.Path(path_type=Path), metavar="FILE", help="Also as a chart.")
@click.option(
    "--png", type=click.Path(path_type=Path), metavar="FILE", help="Also as a chart; needs the extra png."
)
@JSON
def explain_plan(
    model: str, trust_remote_code: bool, svg: Path | None, png: Path | None, as_json: bool, **asked: Any
) -> None:
    """Walk from full fine-tuning in fp32 down to the plan. What each measure saves and costs."""
    from ..planner.walk import walk
    from ..report.picture import require_png, save_picture
    from ..report.walk import walk_view
    from ..report.waterfall import waterfall

    if png is not None:
        require_png()
    task, chosen, _ = planned(model, trust_remote_code, asked)
    with patience("tracing the model") as progress:
        measures = walk(task, chosen.recipe, progress)
    model_id, budget_bytes = chosen.estimate.model.id, chosen.estimate.budget.budget_bytes
    for kind, file in (("svg", svg), ("png", png)):
        if file is not None:
            save_picture(waterfall(model_id, measures, budget_bytes), file, kind)
    if as_json:
        rows = [asdict(measure) for measure in measures]
        print_json({"schema": "lplan.explain/1", "model": model_id, "measures": rows})
    else:
        console().print(walk_view(model_id, measures, budget_bytes))
