"""`lplan compare`: ways to train, side by side."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import click

from ..options import DATA, JSON, KNOBS, MACHINE, MODEL
from .shared import MEASURING, console, patience, print_json, wanted


@click.command("compare")
@MODEL
@DATA
@MACHINE
@KNOBS
@click.option("--price", type=click.FloatRange(min=0), help="Of this machine, an hour.")
@JSON
def compare_ways(
    model: str, trust_remote_code: bool, price: float | None, as_json: bool, **asked: Any
) -> None:
    """Compare full fine-tuning, LoRA and QLoRA side by side. Training from scratch too, all with the same batches."""
    from ..planner.compare import compare
    from ..planner.planning import task_for
    from ..report.compare import compare_view

    request, situation, data = wanted(model, trust_remote_code, asked)
    with patience(MEASURING) as progress:
        task = task_for(request, situation, data.lengths if data else None)
        ways = compare(task, price, progress)
    budget = task.situation.budget.budget_bytes
    if as_json:
        rows = [asdict(way) for way in ways]
        print_json({"schema": "lplan.compare/1", "model": task.situation.model.id, "ways": rows})
    else:
        whole_run = data is not None or asked["max_steps"] is not None
        console().print(compare_view(task.situation.model.id, ways, budget, whole_run=whole_run))
