"""`lplan fit-and-train`: plan, train, watch, report."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..options import AIM, DATA, JSON, KNOBS, MACHINE, MODEL_HELP, TRUST
from ..profiles.errors import LplanError, UsageError
from .shared import console, planned, print_json, show_plan

if TYPE_CHECKING:
    from ..planner.events import Outcome
    from ..planner.plan import Plan
    from ..trainer.prepare import Prepared
    from ..trainer.run_folder import RunFolder


@click.command("fit-and-train")
@click.option("--model", metavar="NAME|HUB_ID|DIR", help=MODEL_HELP)
@TRUST
@click.option(
    "--plan", "plan_file", type=click.Path(path_type=Path), help="Replay a plan of lplan plan --output."
)
@DATA
@MACHINE
@KNOBS
@AIM
@click.option(
    "--output", type=click.Path(path_type=Path), help="The run's folder. Default: runs/<date>-<model>."
)
@click.option("--quiet", is_flag=True, help="Say only how it ended.")
@JSON
def fit_and_train(
    model: str | None,
    trust_remote_code: bool,
    plan_file: Path | None,
    output: Path | None,
    quiet: bool,
    as_json: bool,
    **asked: Any,
) -> None:
    """Plan, train inside the budget, watch, and report predicted against measured."""
    from ..trainer.fit import reserved_folder
    from ..trainer.replay import replay
    from ..trainer.run_folder import default_path

    silent = quiet or as_json
    named = _require_sources(model, plan_file, asked)
    with reserved_folder(output or default_path(named)) as folder:
        if plan_file is None:
            task, chosen, data = planned(named, trust_remote_code, asked, for_run=True)
        else:
            task, (chosen, data) = None, replay(plan_file, model, asked["data"], trust=trust_remote_code)
        show_plan(task, chosen, None if silent else console(stderr=True))
        assert data is not None
        outcome = _train(chosen, data, folder, quiet=quiet, as_json=as_json)
    if outcome.exit_code:
        verdict = "interrupted: " if outcome.verdict == "interrupted" else ""
        hint = outcome.hint or f"what there is of it is in {folder.path}"
        error = LplanError(f"{verdict}{outcome.explanation}", hint=hint)
        error.exit_code = outcome.exit_code
        raise error


def _require_sources(model: str | None, plan_file: Path | None, asked: Mapping[str, Any]) -> str:
    """What names the run: its model, or its plan."""
    if plan_file is None:
        if model is None or not asked["data"]:
            raise UsageError("fit-and-train needs --model and --data, or --plan", hint="try --data demo")
        return model
    given = [name for name, value in asked.items() if value not in (None, ()) and name != "data"]
    if given:
        flag = f"--{given[0].replace('_', '-')}"
        raise UsageError(f"{flag} does not go with --plan", hint=f"plan again with {flag}, or leave it out")
    return model or plan_file.stem


def _train(chosen: Plan, data: Prepared, folder: RunFolder, *, quiet: bool, as_json: bool) -> Outcome:
    from ..planner.documents import run_document
    from ..planner.history import record_of, remember
    from ..report.live import view_for
    from ..report.run import run_table
    from ..report.summary import RunSummary
    from ..trainer.fit import run_plan

    summary = RunSummary()
    with view_for(console(stderr=True), chosen.estimate, quiet=quiet or as_json) as view:

        def on_event(event: Any) -> None:
            summary.add(event)
            if not getattr(event, "exit_code", 0):  # a failure is told once, as an error
                view.handle(event)

        outcome = run_plan(chosen, data, folder, on_event)
    peaks = tuple(summary.peaks.values())
    remember(record_of(chosen, peaks, outcome, folder.path, tokens_per_s=summary.tokens_per_s))
    if as_json:
        print_json(run_document(chosen, peaks, outcome, folder.path))
    elif not quiet:
        console().print(run_table(chosen.estimate, peaks, outcome, summary=summary, time=chosen.time))
        console().print(f"everything is in {folder.path}", soft_wrap=True)
    return outcome
