"""`lplan doctor`: this machine as lplan sees it."""

from __future__ import annotations

import click

from ..options import JSON, MACHINE
from .shared import console, print_json


@click.command()
@MACHINE
@JSON
def doctor(hardware: str | None, ram: int | None, vram: int | None, as_json: bool) -> None:
    """Show this machine, and the budget it leads to."""
    from ..profiles.budget import decide_budget
    from ..profiles.machine import diagnose, this_machine
    from ..profiles.named import find_hardware
    from ..report.machine import doctor_dict, doctor_view

    machine = find_hardware(hardware) if hardware else this_machine()
    supposed = hardware is None and vram is not None
    budget = decide_budget(machine, ram_bytes=ram, vram_bytes=vram, for_run=supposed)
    if as_json:
        print_json(doctor_dict(machine, budget, diagnose()))
    else:
        console().print(doctor_view(machine, budget, diagnose()))
