"""`lplan fit-and-train`: plan, train, watch, report."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..options import AIM, DATA, JSON, KNOBS, MACHINE, MODEL_HELP, TRUST
from ..profiles.errors import LplanError, UsageError
from .shared import console, planned, print_json, show_plan

if TYPE_CHECKING:
    from ..planner.events import Outcome
    from ..planner.plan import Plan
    from ..trainer.run_folder import RunFolder


@click.command("fit-and-train")
@click.option("--model", metavar="NAME|HUB_ID|DIR", help=MODEL_HELP)
@TRUST
@click.option(
    "--plan", "plan_file", type=click.Path(path_type=Path), help="Replay a plan of lplan plan --output."
)
@click.option(
    "--resume",
    type=click.Path(path_type=Path),
    metavar="RUN",
    help="Continue the run of this folder from its last good checkpoint.",
)
@DATA
@MACHINE
@KNOBS
@AIM
@click.option(
    "--output", type=click.Path(path_type=Path), help="The run's folder. Default: runs/<date>-<model>."
)
@click.option(
    "--checkpoint-steps",
    type=click.IntRange(min=1),
    metavar="N",
    help="A checkpoint every N steps. Default: every minute, or rarer if that cost a percent of the time.",
)
@click.option(
    "--tries",
    type=click.IntRange(min=1),
    default=3,
    show_default=True,
    metavar="N",
    help="Attempts at most: a run that dies for memory goes on with a smaller plan.",
)
@click.option(
    "--report-to",
    type=click.Choice(("tensorboard", "wandb", "mlflow", "trackio")),
    multiple=True,
    help="Send metrics, memory among them, to a tracker that is installed; may be given several times.",
)
@click.option(
    "--rehearsal/--no-rehearsal",
    default=True,
    help="Try a step, an evaluation and a checkpoint on the longest samples first. Default: yes.",
)
@click.option(
    "--grow", is_flag=True, help="Use the room that the rehearsal leaves: a faster plan, if one then fits."
)
@click.option("--quiet", is_flag=True, help="Say only how it ended.")
@JSON
def fit_and_train(
    model: str | None,
    trust_remote_code: bool,
    plan_file: Path | None,
    resume: Path | None,
    output: Path | None,
    checkpoint_steps: int | None,
    tries: int,
    report_to: tuple[str, ...],
    rehearsal: bool,
    grow: bool,
    quiet: bool,
    as_json: bool,
    **asked: Any,
) -> None:
    """Plan, train inside the budget, watch, and report. What was predicted stands beside what was measured."""
    from ..trainer.fit import reserved_folder, resumable, resume_run, run_plan, store
    from ..trainer.replay import replay
    from ..trainer.run_folder import default_path
    from ..trainer.trackers import require_trackers

    silent = quiet or as_json
    if resume is not None:
        others = {
            "model": model,
            "plan": plan_file,
            "output": output,
            "checkpoint_steps": checkpoint_steps,
            "report_to": report_to,
            "grow": grow or None,
        }
        rate, ram = asked.pop("learning_rate"), asked.pop("ram")
        _require_alone("--resume", {**asked, **others})
        chosen, folder = resumable(resume, ram)
        go_on = partial(resume_run, chosen, folder, tries=tries, learning_rate=rate)
        outcome = _train(chosen, folder, go_on, quiet=quiet, as_json=as_json)
        _raise_failure(outcome, folder)
        return
    named = _require_sources(model, plan_file, {**asked, "grow": grow or None})
    if grow and not rehearsal:
        raise UsageError("--grow needs the rehearsal that --no-rehearsal leaves out", hint="leave one out")
    require_trackers(report_to)
    with reserved_folder(output or default_path(named)) as folder:
        if plan_file is None:
            task, chosen, data = planned(named, trust_remote_code, asked, for_run=True)
        else:
            task, (chosen, data) = None, replay(plan_file, model, asked["data"], trust=trust_remote_code)
        show_plan(task, chosen, None if silent else console(stderr=True))
        assert data is not None
        pad_token_id = store(data, folder)
        del data  # 5 bytes a token, for as long as the run takes
        run = partial(
            run_plan,
            chosen,
            pad_token_id,
            folder,
            checkpoint_steps=checkpoint_steps or 0,
            tries=tries,
            report_to=report_to,
            rehearse=rehearsal,
            given=task.given if grow and task is not None else None,
        )
        outcome = _train(chosen, folder, run, quiet=quiet, as_json=as_json)
    _raise_failure(outcome, folder)


def _raise_failure(outcome: Outcome, folder: RunFolder) -> None:
    if not outcome.exit_code:
        return
    verdict = "interrupted: " if outcome.verdict == "interrupted" else ""
    hint = outcome.hint or f"what there is of it is in {folder.path}"
    if any(folder.checkpoints.glob("step-*")) and not outcome.repeats:
        hint += f"; continue it with `lplan fit-and-train --resume {folder.path}`"
    error = LplanError(f"{verdict}{outcome.explanation}", hint=hint)
    error.exit_code = outcome.exit_code
    raise error


def _require_sources(model: str | None, plan_file: Path | None, asked: Mapping[str, Any]) -> str:
    """What names the run: its model, or its plan."""
    if plan_file is None:
        if model is None or not asked["data"]:
            raise UsageError("fit-and-train needs --model and --data, or --plan", hint="try --data demo")
        return model
    _require_alone("--plan", {name: value for name, value in asked.items() if name != "data"})
    return model or plan_file.stem


def _require_alone(source: str, asked: Mapping[str, Any]) -> None:
    """Raises UsageError for knobs beside something that has settled them."""
    given = [name for name, value in asked.items() if value not in (None, ())]
    if given:
        flag = f"--{given[0].replace('_', '-')}"
        raise UsageError(f"{flag} does not go with {source}", hint=f"plan again with {flag}, or leave it out")


def _train(
    chosen: Plan,
    folder: RunFolder,
    run: Callable[[Callable[[Any], None]], Outcome],
    *,
    quiet: bool,
    as_json: bool,
) -> Outcome:
    from ..planner.documents import run_document
    from ..planner.events import Start, read
    from ..planner.history import record_of, remember
    from ..report.live import view_for
    from ..report.run import run_table
    from ..report.summary import RunSummary

    past = list(read(folder.events)) if folder.events.is_file() else []
    summary = RunSummary.from_events(past)
    silent = quiet or as_json
    with view_for(console(stderr=True), chosen.estimate, quiet=silent, past=past) as view:

        def on_event(event: Any) -> None:
            summary.add(event)
            if isinstance(event, Start):  # an attempt is held against its own plan
                view.plan(_as_it_was_run(folder, chosen).estimate)
            if not getattr(event, "exit_code", 0):  # a failure is told once, as an error
                view.handle(event)

        outcome = run(on_event)
    chosen = _as_it_was_run(folder, chosen)
    _keep_page(folder)
    peaks = tuple(summary.peaks.values())
    remember(record_of(chosen, peaks, outcome, folder.path, tokens_per_s=summary.tokens_per_s))
    if as_json:
        print_json(run_document(chosen, peaks, outcome, folder.path))
    elif not quiet:
        console().print(run_table(chosen.estimate, peaks, outcome, summary=summary, time=chosen.time))
        console().print(f"everything is in {folder.path}", soft_wrap=True)
    return outcome


def _as_it_was_run(folder: RunFolder, chosen: Plan) -> Plan:
    """The plan of the last attempt: a recovered run has had several."""
    from ..planner.documents import read_plan

    with suppress(LplanError):
        last = read_plan(folder.plan)
        return chosen if last.recipe == chosen.recipe else last
    return chosen


def _keep_page(folder: RunFolder) -> None:
    """The page about the run; a disk that is full must not hide how the run ended."""
    from ..planner.record import read_record, record_document
    from ..report.page import page

    with suppress(OSError, LplanError):
        folder.report.write_text(page(record_document(read_record(folder.path))), encoding="utf-8")
