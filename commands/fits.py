"""`lplan fits`: on which machines a model fits, or which models fit on a machine."""

from __future__ import annotations

from typing import Any

import click

from ..options import JSON, KNOBS, MACHINE, MODEL_HELP, SAFETY, TRUST
from ..profiles.errors import UsageError
from .shared import console, patience, print_json


@click.command("fits")
@click.option("--model", metavar="NAME|HUB_ID|DIR", help=MODEL_HELP)
@TRUST
@MACHINE
@KNOBS
@SAFETY
@JSON
def what_fits(model: str | None, trust_remote_code: bool, as_json: bool, **asked: Any) -> None:
    """Say which machines a model fits on, or the reverse. Each with its best plan."""
    from ..planner.fits import fits, place
    from ..planner.setting import choose_machine
    from ..profiles.catalogue import catalogue
    from ..profiles.find import find_model
    from ..profiles.named import named_hardware
    from ..report.fits import fits_view

    sized = {"ram_bytes": asked["ram"], "vram_bytes": asked["vram"]}
    somewhere = bool(asked["hardware"] or asked["ram"] or asked["vram"])
    if model is None and not somewhere:
        raise UsageError(
            "what should fit where?", hint="give --model NAME, or --hardware NAME, --ram or --vram"
        )
    names = [asked["hardware"]] if somewhere else list(named_hardware())
    places = [place(*choose_machine(name, **sized), asked) for name in names]
    models = (
        list(catalogue().values())
        if model is None
        else [find_model(model, trust_remote_code=trust_remote_code)]
    )
    rows = []
    with patience("tracing what is not known yet (kept for the next time)", "pairs") as progress:
        for row in fits((one, places) for one in models):
            rows.append(row)
            if progress is not None:
                progress(len(rows), len(places) * len(models))
    if as_json:
        print_json({"schema": "lplan.fits/1", "rows": [row.to_dict() for row in rows]})
    else:
        console().print(fits_view(rows))
