"""The command line: parse, verb, render. The only place that catches LplanError."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .options import DATA, JSON, KNOBS, MACHINE, MODEL, MODEL_HELP, TRUST
from .profiles.errors import DoesNotFitError, LplanError, UsageError
from .profiles.units import format_size

if TYPE_CHECKING:
    from rich.console import Console

    from .planner.estimating import Situation
    from .planner.events import Outcome
    from .planner.foreign.formats import Reading
    from .planner.plan import Plan
    from .planner.request import Request
    from .planner.task import Task
    from .planner.tracer import Progress
    from .trainer.prepare import Prepared
    from .trainer.run_folder import RunFolder

_MEASURING = "measuring this machine and tracing the model (kept for the next time)"
_STRETCHES = 160
"""Moments of a timeline: more than a terminal shows."""


@click.group(context_settings={"help_option_names": ["-h", "--help"]}, invoke_without_command=True)
@click.version_option(package_name="lplan")
@click.option("--debug", is_flag=True, help="Show the whole traceback of an error.")
@click.pass_context
def cli(context: click.Context, debug: bool) -> None:
    """Plan LoRA fine-tuning for the memory you have, run it inside that budget, and see that it held."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


@cli.command()
@click.option("--model", metavar="NAME|HUB_ID|DIR", help=MODEL_HELP)
@TRUST
@click.option(
    "--from",
    "from_file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="A configuration of Hugging Face's Trainer, TRL, axolotl or LLaMA-Factory; flags override it.",
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
    explained: bool,
    drawn: bool,
    as_json: bool,
    **asked: Any,
) -> None:
    """Price a configuration, phase by phase, before anything is downloaded."""
    from .planner.pricing import explain, price, step_timeline
    from .planner.setting import understand

    model, asked, reading = _with_file(model, asked, from_file)
    request, situation = understand(model, asked, trust_remote_code=trust_remote_code)
    with _patience("tracing the model") as progress:
        result = price(request, situation)
        moments = step_timeline(request, situation, _STRETCHES) if drawn else None
        toggles = explain(request, situation, progress) if explained else None
    for line in reading.lines() if reading else ():
        _console(stderr=True).print(line, markup=False, emoji=False)
    if as_json:
        from .planner.documents import estimate_document

        more: dict[str, Any] = {"from": reading.document()} if reading else {}
        more |= {} if moments is None else {"timeline": asdict(moments)}
        more |= {} if toggles is None else {"explain": [asdict(toggle) for toggle in toggles]}
        _print_json({**estimate_document(result), **more})
    else:
        from .report.estimate import estimate_view
        from .report.timeline import timeline_view
        from .report.toggles import toggles_view

        _console().print(estimate_view(result))
        if moments is not None:
            _console().print("", timeline_view(moments))
        if toggles is not None:
            _console().print("", toggles_view(toggles))
    if not result.fits:
        needed, budget = result.peak.required_bytes, result.budget.budget_bytes
        raise DoesNotFitError(
            f"this configuration needs up to {format_size(needed)}, the budget is {format_size(budget)}",
            hint="`lplan plan` looks for one that fits",
        )


@cli.command()
@MODEL
@DATA
@MACHINE
@KNOBS
@click.option("--output", type=click.Path(path_type=Path), help="Write the plan to this file.")
@JSON
def plan(model: str, trust_remote_code: bool, output: Path | None, as_json: bool, **asked: Any) -> None:
    """Choose the fastest configuration that fits, and say why."""
    from .planner.documents import plan_document, require_plan_place, write_plan

    if output is not None:
        require_plan_place(output)
    task, result, _ = _planned(model, trust_remote_code, asked)
    if as_json:
        _print_json(plan_document(result))
    _show_plan(task, result, None if as_json else _console())
    if output is not None:
        write_plan(result, output)


@cli.command("fit-and-train")
@click.option("--model", metavar="NAME|HUB_ID|DIR", help=MODEL_HELP)
@TRUST
@click.option(
    "--plan", "plan_file", type=click.Path(path_type=Path), help="Replay a plan of lplan plan --output."
)
@DATA
@MACHINE
@KNOBS
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
    from .trainer.fit import reserved_folder
    from .trainer.replay import replay
    from .trainer.run_folder import default_path

    silent = quiet or as_json
    named = _require_sources(model, plan_file, asked)
    with reserved_folder(output or default_path(named)) as folder:
        if plan_file is None:
            task, chosen, data = _planned(named, trust_remote_code, asked, for_run=True)
        else:
            task, (chosen, data) = None, replay(plan_file, model, asked["data"], trust=trust_remote_code)
        _show_plan(task, chosen, None if silent else _console(stderr=True))
        assert data is not None
        outcome = _train(chosen, data, folder, quiet=quiet, as_json=as_json)
    if outcome.exit_code:
        verdict = "interrupted: " if outcome.verdict == "interrupted" else ""
        hint = outcome.hint or f"what there is of it is in {folder.path}"
        error = LplanError(f"{verdict}{outcome.explanation}", hint=hint)
        error.exit_code = outcome.exit_code
        raise error


@cli.command("explain")
@MODEL
@DATA
@MACHINE
@KNOBS
@click.option("--svg", type=click.Path(path_type=Path), metavar="FILE", help="Also as a picture.")
@JSON
def explain_plan(model: str, trust_remote_code: bool, svg: Path | None, as_json: bool, **asked: Any) -> None:
    """Walk from full fine-tuning in fp32 down to the plan: what each measure saves and costs."""
    from .planner.walk import walk
    from .report.walk import save_svg, walk_view

    task, chosen, _ = _planned(model, trust_remote_code, asked)
    with _patience("tracing the model") as progress:
        measures = walk(task, chosen.recipe, progress)
    if as_json:
        rows = [asdict(measure) for measure in measures]
        _print_json({"schema": "lplan.explain/1", "model": chosen.estimate.model.id, "measures": rows})
        return
    view = walk_view(chosen.estimate.model.id, measures, chosen.estimate.budget.budget_bytes)
    _console().print(view)
    if svg is not None:
        save_svg(view, svg)


@cli.command("compare")
@MODEL
@DATA
@MACHINE
@KNOBS
@click.option("--price", type=click.FloatRange(min=0), help="Of this machine, an hour.")
@JSON
def compare_ways(
    model: str, trust_remote_code: bool, price: float | None, as_json: bool, **asked: Any
) -> None:
    """Compare training from scratch, full fine-tuning, LoRA and QLoRA, with the same batches."""
    from .planner.compare import compare
    from .planner.planning import task_for
    from .report.compare import compare_view

    request, situation, data = _wanted(model, trust_remote_code, asked)
    with _patience(_MEASURING) as progress:
        task = task_for(request, situation, data.lengths if data else None)
        ways = compare(task, price, progress)
    budget = task.situation.budget.budget_bytes
    if as_json:
        rows = [asdict(way) for way in ways]
        _print_json({"schema": "lplan.compare/1", "model": task.situation.model.id, "ways": rows})
    else:
        _console().print(compare_view(task.situation.model.id, ways, budget))


@cli.command()
@JSON
def models(as_json: bool) -> None:
    """List the models that lplan knows by name."""
    from .profiles.catalogue import catalogue

    if as_json:
        rows = [{"alias": p.alias, "id": p.id, "parameters": p.parameters} for p in catalogue().values()]
        _print_json({"schema": "lplan.models/1", "models": rows})
        return
    from .report.models import models_table

    _console().print(models_table(catalogue().values()))


@cli.command()
@MACHINE
@JSON
def doctor(hardware: str | None, ram: int | None, vram: int | None, as_json: bool) -> None:
    """Show this machine as lplan sees it, and the budget it leads to."""
    from .profiles.budget import decide_budget
    from .profiles.machine import diagnose, this_machine
    from .profiles.named import find_hardware
    from .report.machine import doctor_dict, doctor_view

    machine = find_hardware(hardware) if hardware else this_machine()
    supposed = hardware is None and vram is not None
    budget = decide_budget(machine, ram_bytes=ram, vram_bytes=vram, for_run=supposed)
    if as_json:
        _print_json(doctor_dict(machine, budget, diagnose()))
    else:
        _console().print(doctor_view(machine, budget, diagnose()))


def _wanted(
    model: str, trust_remote_code: bool, asked: Mapping[str, Any], *, for_run: bool = False
) -> tuple[Request, Situation, Prepared | None]:
    """What was asked for and its data; cheap refusals come first, downloads last."""
    from .planner.setting import understand
    from .trainer.prepare import prepare_data, usual_values
    from .trainer.weights import with_weights

    usual = usual_values(asked["task"])
    request, situation = understand(
        model, asked, usual=usual, trust_remote_code=trust_remote_code, for_run=for_run
    )
    data = None
    if asked["data"]:
        data = prepare_data(asked["data"], situation.model, task=asked["task"], max_length=asked["seq_len"])
    if for_run and request.recipe.init != "random":
        situation = replace(situation, model=with_weights(situation.model))
    return request, situation, data


def _planned(
    model: str, trust_remote_code: bool, asked: Mapping[str, Any], *, for_run: bool = False
) -> tuple[Task, Plan, Prepared | None]:
    """The plan for what was asked; measurements come last."""
    from .planner.planning import plan_for

    request, situation, data = _wanted(model, trust_remote_code, asked, for_run=for_run)
    lengths, reference = (data.lengths, data.reference) if data is not None else (None, None)
    with _patience(_MEASURING) as progress:
        task, plan = plan_for(request, situation, lengths=lengths, data=reference, progress=progress)
    return task, plan, data


def _with_file(
    model: str | None, asked: dict[str, Any], file: Path | None
) -> tuple[str, dict[str, Any], Reading | None]:
    """The model and what is asked for: by flags, and below them by another program's configuration."""
    if file is None:
        if model is None:
            raise click.MissingParameter(param_hint="'--model'", param_type="option")
        return model, asked, None
    from .planner.foreign.formats import read_foreign

    reading = read_foreign(file)
    model = reading.model if model is None else model
    if model is None:
        raise UsageError(f"{file} names no model", hint="add --model NAME|HUB_ID|DIR")
    return model, reading.under(asked), reading


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


def _show_plan(task: Task | None, result: Plan, console: Console | None) -> None:
    """Show a plan. Raises DoesNotFitError when it does not fit, after showing the closest and what would help."""
    from .planner.planning import misses_bytes, what_would_help
    from .report.plan import no_plan_view, plan_view

    if result.estimate.fits:
        if console is not None:
            console.print(plan_view(result))
        return
    advice = what_would_help(task, result) if task is not None else ()
    if console is not None:
        console.print(no_plan_view(result, misses_bytes(result), advice))
    budget, misses = result.estimate.budget.budget_bytes, misses_bytes(result)
    raise DoesNotFitError(
        f"no plan fits {format_size(budget)}: the closest misses by {format_size(misses)}",
        hint=f"it would take {advice[0]}" if advice else "plan again with a larger --ram",
    )


def _train(chosen: Plan, data: Prepared, folder: RunFolder, *, quiet: bool, as_json: bool) -> Outcome:
    from .planner.documents import run_document
    from .report.live import view_for
    from .report.run import run_table
    from .report.summary import RunSummary
    from .trainer.fit import run_plan

    summary = RunSummary()
    with view_for(_console(stderr=True), chosen.estimate, quiet=quiet or as_json) as view:

        def on_event(event: Any) -> None:
            summary.add(event)
            if not getattr(event, "exit_code", 0):  # a failure is told once, as an error
                view.handle(event)

        outcome = run_plan(chosen, data, folder, on_event)
    peaks = tuple(summary.peaks.values())
    if as_json:
        _print_json(run_document(chosen, peaks, outcome, folder.path))
    elif not quiet:
        _console().print(run_table(chosen.estimate, peaks, outcome, summary=summary, time=chosen.time))
        _console().print(f"everything is in {folder.path}", soft_wrap=True)
    return outcome


@contextmanager
def _patience(text: str) -> Iterator[Progress | None]:
    """Where someone watches: what is going on, and how far it is."""
    if not sys.stderr.isatty():
        yield None
        return
    with _console(stderr=True).status(text) as status:
        yield lambda done, of: status.update(f"{text}: {done} of {of} graphs")


def _console(*, stderr: bool = False) -> Console:
    from rich.console import Console

    return Console(stderr=stderr, highlight=False)


def _print_json(document: Mapping[str, Any]) -> None:
    click.echo(json.dumps(document, indent=1))


def main() -> None:
    """Entry point: one line of error and a hint, never a traceback unless asked."""
    arguments = sys.argv[1:]
    debug = "--debug" in arguments
    try:
        with cli.make_context("lplan", [arg for arg in arguments if arg != "--debug"]) as context:
            cli.invoke(context)
        sys.stdout.flush()
    except click.exceptions.Exit as end:
        sys.exit(end.exit_code)
    except BrokenPipeError:
        # Whoever read our output has left; the interpreter's own flush at exit must not fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except KeyboardInterrupt:
        click.echo("\n" if sys.stderr.isatty() else "", err=True, nl=False)  # after the terminal's own ^C
        _complain("interrupted", "what was measured and traced so far is kept", 1)
    except Exception as error:
        if debug:
            raise
        _complain(*_explained(error, next((arg for arg in arguments if arg in cli.commands), "")))


def _explained(error: Exception, command: str) -> tuple[str, str, int]:
    """Message, hint and exit status of an error."""
    usage = f"`{f'lplan {command}'.strip()} --help` shows what there is"
    if isinstance(error, LplanError):
        return str(error), error.hint or usage, error.exit_code
    if isinstance(error, click.ClickException):
        return error.format_message(), usage, error.exit_code
    if isinstance(error, OSError):
        return str(error), "check the disk's space and the permissions; --debug shows where", 1
    return f"{type(error).__name__}: {error}", "this is a bug in lplan; --debug shows where", 1


def _complain(message: str, hint: str, exit_code: int) -> None:
    click.echo(f"error: {' '.join(message.split())}", err=True)
    click.echo(f"hint: {' '.join(hint.split())}", err=True)
    sys.exit(exit_code)
