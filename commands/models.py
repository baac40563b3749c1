"""`lplan models`: the catalogue."""

from __future__ import annotations

import click

from ..options import JSON
from .shared import console, print_json


@click.command()
@JSON
def models(as_json: bool) -> None:
    """List the models that lplan knows by name."""
    from ..profiles.catalogue import catalogue

    if as_json:
        rows = [{"alias": p.alias, "id": p.id, "parameters": p.parameters} for p in catalogue().values()]
        print_json({"schema": "lplan.models/1", "models": rows})
        return
    from ..report.models import models_table

    console().print(models_table(catalogue().values()))
