"""`lplan history`, `calibrate`, `drift`: what this machine's own runs say of the predictions."""

from __future__ import annotations

from dataclasses import asdict

import click

from ..options import JSON
from ..profiles.errors import LplanError
from .shared import console, print_json


@click.command()
@JSON
def history(as_json: bool) -> None:
    """List the runs of this machine, predicted against measured."""
    from ..planner.history import past_runs
    from ..report.history import history_view

    records = past_runs()
    if as_json:
        print_json({"schema": "lplan.history/1", "runs": [record.to_dict() for record in records]})
    else:
        console().print(history_view(records))


@click.command()
@click.option("--undo", is_flag=True, help="Back to estimates as they come.")
@JSON
def calibrate(undo: bool, as_json: bool) -> None:
    """Learn this machine's own offsets from its runs."""
    from ..planner.calibration import FEWEST_RUNS, fit, forget, keep, leave_one_out, usable
    from ..planner.history import past_runs
    from ..report.history import calibration_view

    if undo:
        undone = forget()
        if as_json:
            print_json({"schema": "lplan.calibrate/1", "undone": undone})
        else:
            console().print(
                "estimates are as they come again" if undone else "there is no calibration to undo"
            )
        return
    records = usable(past_runs())
    if len(records) < FEWEST_RUNS:
        raise LplanError(
            f"finished runs on this machine with these versions: {len(records)}, which is too few; "
            f"it takes {FEWEST_RUNS} to tell an offset from chance",
            hint="`lplan history` lists the runs; nothing was changed",
        )
    calibration, trial = fit(records), leave_one_out(records)
    if trial.helps:
        keep(calibration)
    if as_json:
        document = {"kept": trial.helps, "trial": asdict(trial), "calibration": asdict(calibration)}
        print_json({"schema": "lplan.calibrate/1", **document})
    else:
        console().print(calibration_view(calibration, trial))


@click.command()
@JSON
def drift(as_json: bool) -> None:
    """Show what upgrades of the libraries changed. In predictions and in speed."""
    from ..planner.drift import eras
    from ..planner.history import past_runs
    from ..report.history import drift_view

    found = eras(past_runs())
    if as_json:
        print_json({"schema": "lplan.drift/1", "eras": [asdict(era) for era in found]})
    else:
        console().print(drift_view(found))
