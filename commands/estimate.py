"""`lplan estimate`: price a configuration."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..options import JSON, KNOBS, MACHINE, MODEL_HELP, TRUST
from ..profiles.errors import DoesNotFitError, UsageError
from ..profiles.units import format_size
from .shared import console, patience, print_json

if TYPE_CHECKING:
    from ..planner.foreign.formats import Reading

_LESS_KEPT = "take --eval-logits argmax, or --eval-accumulation-steps 1 with room on the host"
_STRETCHES = 160
"""Moments of a timeline: more than a terminal shows."""


@click.command()
@click.option("--model", metavar="NAME|HUB_ID|DIR", help=MODEL_HELP)
@TRUST
@click.option(
    "--from",
    "from_file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="A configuration of Hugging Face's Trainer, TRL, axolotl or LLaMA-Factory; flags override it.",
)
@click.option(
    "--samples",
    type=click.IntRange(min=1),
    help="Of the data that is tokenized, all of the longest length. Default: 10000.",
)
@click.option("--explain", "explained", is_flag=True, help="What each knob would save or cost.")
@click.option("--timeline", "drawn", is_flag=True, help="Memory over one step.")
@MACHINE
@KNOBS
@JSON
def estimate(
    model: str | None,
    trust_remote_code: bool,
    from_file: Path | None,
    samples: int | None,
    explained: bool,
    drawn: bool,
    as_json: bool,
    **asked: Any,
) -> None:
    """Price a configuration, phase by phase. Nothing is downloaded but its config.json."""
    from ..planner.pricing import price
    from ..planner.setting import understand
    from ..planner.tokenizing import supposed

    model, asked, reading = _with_file(model, asked, from_file)
    request, situation = understand(model, asked, trust_remote_code=trust_remote_code)
    if samples is not None:
        situation = replace(situation, texts=supposed(request.recipe.seq_len, samples))
    with patience("tracing the model") as progress:
        result, moments, toggles = price(request, situation), None, None
        if drawn or explained:
            from ..planner.explaining import explain, step_timeline

            moments = step_timeline(request, situation, _STRETCHES) if drawn else None
            toggles = explain(request, situation, progress) if explained else None
    for line in reading.lines() if reading else ():
        console(stderr=True).print(line, markup=False, emoji=False)
    if as_json:
        from ..planner.documents import estimate_document

        more: dict[str, Any] = {"from": reading.document()} if reading else {}
        more |= {} if moments is None else {"timeline": asdict(moments)}
        more |= {} if toggles is None else {"explain": [asdict(toggle) for toggle in toggles]}
        print_json({**estimate_document(result), **more})
    else:
        from ..report.estimate import estimate_view

        console().print(estimate_view(result))
        if moments is not None:
            from ..report.timeline import timeline_view

            console().print("", timeline_view(moments))
        if toggles is not None:
            from ..report.toggles import toggles_view

            console().print("", toggles_view(toggles))
    if not result.fits:
        needed, budget = result.peak.required_bytes, result.budget.budget_bytes
        kept = result.peak.name == "evaluation" and result.recipe.eval_logits == "gathered"
        raise DoesNotFitError(
            f"this configuration needs up to {format_size(needed)}, the budget is {format_size(budget)}",
            hint=_LESS_KEPT if kept else "`lplan plan` looks for one that fits",
        )


def _with_file(
    model: str | None, asked: dict[str, Any], file: Path | None
) -> tuple[str, dict[str, Any], Reading | None]:
    """The model and what is asked for: by flags, and below them by another program's configuration."""
    if file is None:
        if model is None:
            raise click.MissingParameter(param_hint="'--model'", param_type="option")
        return model, asked, None
    from ..planner.foreign.formats import read_foreign

    reading = read_foreign(file)
    model = reading.model if model is None else model
    if model is None:
        raise UsageError(f"{file} names no model", hint="add --model NAME|HUB_ID|DIR")
    return model, reading.under(asked), reading
