"""`lplan plan`: choose a configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ..options import AIM, DATA, JSON, KNOBS, MACHINE, MODEL, PRICE, Difference
from .shared import MEASURING, console, patience, planned, print_json, show_plan


@click.command()
@MODEL
@DATA
@MACHINE
@KNOBS
@AIM
@PRICE
@click.option("--pareto", "frontier", is_flag=True, help="Memory against time: what no other recipe beats.")
@click.option(
    "--what-if", "differences", type=Difference(), multiple=True, help="What more or less memory would buy."
)
@click.option("--output", type=click.Path(path_type=Path), help="Write the plan to this file.")
@JSON
def plan(
    model: str,
    trust_remote_code: bool,
    price: float | None,
    frontier: bool,
    differences: tuple[int, ...],
    output: Path | None,
    as_json: bool,
    **asked: Any,
) -> None:
    """Choose the fastest configuration that fits, and say why."""
    from ..planner.documents import plan_document, require_plan_place, write_plan
    from ..planner.frontier import pareto, what_if
    from ..planner.plan import cost
    from ..report.frontier import frontier_view, what_if_view

    if output is not None:
        require_plan_place(output)
    task, result, _ = planned(model, trust_remote_code, asked)
    with patience(MEASURING) as progress:
        points = pareto(task, progress) if frontier else None
        others = what_if(task, differences, progress) if differences else None
    if as_json:
        more: dict[str, Any] = {}
        if points is not None:
            more["pareto"] = [point.to_dict() for point in points]
        if others is not None:
            more["what_if"] = [{"difference_bytes": by, **other.to_dict()} for by, other in others]
        if price is not None:
            more["cost"] = {"price_per_hour": price, "total": cost(result, price)}
        print_json({**plan_document(result), **more})
    elif points or others:
        for view in (points and frontier_view(points), others and what_if_view(result, others)):
            if view:
                console().print(view, "")
    show_plan(task, result, None if as_json else console(), price)
    if output is not None:
        write_plan(result, output)
