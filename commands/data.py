"""`lplan data`: a data set as a model sees it."""

from __future__ import annotations

import click

from ..options import JSON, MODEL
from .shared import console, print_json


@click.command("data")
@click.argument("data", metavar="FILE|DIR|HUB_ID|demo")
@MODEL
@click.option("--task", metavar="NAME", help="banking77: labelled texts to dialogues. Default: none.")
@click.option(
    "--seq-len", type=click.IntRange(min=1), help="Cut at this length. Default: the model's context."
)
@JSON
def inspect(
    data: str, model: str, trust_remote_code: bool, task: str | None, seq_len: int | None, as_json: bool
) -> None:
    """Look at a data set before training. Lengths, batches, labels, and what may be wrong with it."""
    from ..profiles.find import find_model
    from ..report.data import data_view
    from ..trainer.inspect_data import inspect_data

    profile = find_model(model, trust_remote_code=trust_remote_code)
    report = inspect_data(data, profile, task=task, max_length=seq_len)
    if as_json:
        print_json(report.document())
    else:
        console().print(data_view(report))
