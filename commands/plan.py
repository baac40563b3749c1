"""`lplan plan`: choose a configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ..options import DATA, JSON, KNOBS, MACHINE, MODEL
from .shared import console, planned, print_json, show_plan


@click.command()
@MODEL
@DATA
@MACHINE
@KNOBS
@click.option("--output", type=click.Path(path_type=Path), help="Write the plan to this file.")
@JSON
def plan(model: str, trust_remote_code: bool, output: Path | None, as_json: bool, **asked: Any) -> None:
    """Choose the fastest configuration that fits, and say why."""
    from ..planner.documents import plan_document, require_plan_place, write_plan

    if output is not None:
        require_plan_place(output)
    task, result, _ = planned(model, trust_remote_code, asked)
    if as_json:
        print_json(plan_document(result))
    show_plan(task, result, None if as_json else console())
    if output is not None:
        write_plan(result, output)
