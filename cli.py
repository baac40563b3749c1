"""The command line: parse, verb, render. The only place that catches LplanError."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .profiles.errors import EXIT_DOES_NOT_FIT, LplanError, UsageError
from .profiles.units import format_size, parse_size

if TYPE_CHECKING:
    from rich.console import Console

    from .planner.plan import DataReference, Plan, Schedule
    from .planner.request import Request
    from .planner.tokens import TokenLengths
    from .profiles.hardware import Budget, Hardware
    from .profiles.model import ModelProfile
    from .trainer.prepare import Prepared

Command = Callable[..., Any]


class _Size(click.ParamType[int]):
    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        return value if isinstance(value, int) else parse_size(value)


def _options(*options: Callable[[Command], Command]) -> Callable[[Command], Command]:
    return lambda command: reduce(lambda wrapped, option: option(wrapped), reversed(options), command)


_MACHINE = _options(
    click.option("--hardware", metavar="NAME", help="A named machine; default: this one, as detected."),
    click.option(
        "--ram", type=_Size(), help="Memory the run may use, all of it: 8G = 8GiB, 8GB = 8 * 10**9."
    ),
    click.option("--vram", type=_Size(), help="GPU memory the run may use."),
)
_KNOBS = _options(
    click.option("--method", type=click.Choice(["lora", "qlora", "full"]), help="Default: lora."),
    click.option("--rank", type=int, help="LoRA rank. Default: 8."),
    click.option("--alpha", type=int, help="LoRA alpha. Default: 16."),
    click.option("--dropout", type=float, help="LoRA dropout. Default: 0.05."),
    click.option("--target-modules", metavar="NAMES", help="attention (default), all-linear, or a,b,c."),
    click.option("--batch-size", type=int, help="Micro batch: sequences per forward pass."),
    click.option("--effective-batch", type=int, help="Sequences per optimizer step. Default: 8."),
    click.option("--seq-len", type=int, help="Tokens per sequence, at most."),
    click.option("--precision", type=click.Choice(["fp32", "bf16", "fp16", "bf16-amp", "fp16-amp"])),
    click.option("--adapter-dtype", type=click.Choice(["fp32", "base"])),
    click.option(
        "--input-casting", type=click.Choice(["on", "off"]), help="PEFT's fp32 copies of adapter inputs."
    ),
    click.option("--checkpointing", metavar="none|full|every-N", help="Activation checkpointing."),
    click.option("--optimizer", type=click.Choice(["adamw", "adamw-fused", "sgd"])),
    click.option("--quantization", type=click.Choice(["none", "nf4", "nf4-dq", "int8"])),
    click.option("--kbit-preparation", type=click.Choice(["on", "off"])),
    click.option("--attention", type=click.Choice(["sdpa", "eager", "flash"])),
    click.option(
        "--loss", type=click.Choice(["full", "supervised", "chunked"]), help="Which logits exist at once."
    ),
    click.option(
        "--offload", multiple=True, type=click.Choice(["none", "activations", "optimizer", "weights"])
    ),
    click.option("--padding", type=click.Choice(["padded", "packed", "none"])),
    click.option(
        "--allocator", type=click.Choice(["pinned", "default"]), help="glibc's thresholds fixed, or not."
    ),
    click.option("--threads", type=int, help="Default: usable cores."),
    click.option(
        "--init", type=click.Choice(["pretrained", "random"]), help="random: weights made in memory."
    ),
)
_MODEL = _options(
    click.option(
        "--model", required=True, metavar="NAME|HUB_ID|DIR", help="Alias (lplan models), hub id or folder."
    ),
    click.option("--trust-remote-code", is_flag=True, help="Run the model's own Python code."),
)
_JSON = click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
_DATA = _options(
    click.option("--data", metavar="FILE|DIR|HUB_ID|demo", help="What to train on."),
    click.option("--task", metavar="NAME", help="banking77: labelled texts to dialogues. Default: none."),
    click.option("--epochs", type=float, help="Default: 3."),
    click.option("--max-steps", type=click.IntRange(min=1), help="Optimizer steps, at most."),
    click.option("--learning-rate", type=float, help="Default: 2e-4."),
    click.option("--seed", type=int, help="Default: 42."),
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="lplan")
@click.option("--debug", is_flag=True, help="Show the whole traceback of an error.")
def cli(debug: bool) -> None:
    """Plan LoRA fine-tuning for the memory you have, run it inside that budget, and see that it held."""


@cli.command()
@_MODEL
@_MACHINE
@_KNOBS
@_JSON
def estimate(model: str, trust_remote_code: bool, as_json: bool, **asked: Any) -> None:
    """Price a configuration, phase by phase, before anything is downloaded."""
    from .planner.documents import estimate_document
    from .planner.estimating import make_estimate, shape_of
    from .planner.request import require_room
    from .planner.tracer import footprint

    profile = _find_model(model, trust_remote_code)
    hardware, budget = _machine(asked)
    request = _request(asked, hardware, None)
    found = footprint(profile, request.recipe, shape_of(request.recipe))
    situation = _situation(profile, hardware, budget)
    require_room(budget, situation.baseline)
    result = make_estimate(request.recipe, found, situation)
    result = replace(result, assumptions=(*result.assumptions, *_taken_by_default(request)))
    if as_json:
        _print_json(estimate_document(result))
    else:
        from .report.estimate import estimate_view

        _stdout().print(estimate_view(result))
    if not result.fits:
        sys.exit(EXIT_DOES_NOT_FIT)


@cli.command()
@_MODEL
@_DATA
@_MACHINE
@_KNOBS
@click.option("--output", type=click.Path(path_type=Path), help="Write the plan to this file.")
@_JSON
def plan(model: str, trust_remote_code: bool, output: Path | None, as_json: bool, **asked: Any) -> None:
    """Choose the fastest configuration that fits, and say why."""
    from .planner.documents import plan_document, write_plan

    profile = _find_model(model, trust_remote_code)
    data = _prepare(profile, asked) if asked["data"] else None
    result = _make_plan(profile, data, asked, for_run=False)
    if output is not None:
        write_plan(result, output)
    if as_json:
        _print_json(plan_document(result))
    _finish_plan(result, _stdout(), quiet=as_json)


@cli.command("fit-and-train")
@click.option("--model", metavar="NAME|HUB_ID|DIR", help="Alias (lplan models), hub id or folder.")
@click.option("--trust-remote-code", is_flag=True, help="Run the model's own Python code.")
@click.option(
    "--plan", "plan_file", type=click.Path(path_type=Path), help="Replay a plan of lplan plan --output."
)
@_DATA
@_MACHINE
@_KNOBS
@click.option(
    "--output", type=click.Path(path_type=Path), help="The run's folder. Default: runs/<date>-<model>."
)
@click.option("--quiet", is_flag=True, help="Say only how it ended.")
@_JSON
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
    from .report.live import view_for
    from .report.run import run_table
    from .report.summary import RunSummary
    from .trainer.fit import run_plan
    from .trainer.run_folder import RunFolder, default_path

    silent = quiet or as_json
    chosen, data = _replay(plan_file, asked) if plan_file else _plan_for_run(model, trust_remote_code, asked)
    _finish_plan(chosen, _stderr(), quiet=silent)
    folder = RunFolder.create(output or default_path(chosen.estimate.model.alias or chosen.estimate.model.id))
    summary = RunSummary()
    with view_for(_stderr(), chosen.estimate, quiet=silent) as view:

        def on_event(event: Any) -> None:
            summary.add(event)
            view.handle(event)

        outcome = run_plan(chosen, data, folder, on_event)
    peaks = tuple(summary.peaks.values())
    if as_json:
        from .planner.documents import run_document

        _print_json(run_document(chosen, peaks, outcome, folder.path))
    elif not quiet:
        _stdout().print(run_table(chosen.estimate, peaks, outcome, summary=summary, time=chosen.time))
        _stdout().print(f"everything is in {folder.path}", soft_wrap=True)
    sys.exit(outcome.exit_code)


@cli.command()
@_JSON
def models(as_json: bool) -> None:
    """List the models that lplan knows by name."""
    from .profiles.catalogue import catalogue

    if as_json:
        rows = [{"alias": p.alias, "id": p.id, "parameters": p.parameters} for p in catalogue().values()]
        _print_json({"schema": "lplan.models/1", "models": rows})
        return
    from .report.models import models_table

    _stdout().print(models_table(catalogue().values()))


@cli.command()
@_MACHINE
@_JSON
def doctor(as_json: bool, **asked: Any) -> None:
    """Show this machine as lplan sees it, and the budget it leads to."""
    from .profiles.machine import diagnose
    from .report.machine import doctor_dict, doctor_view

    hardware, budget = _machine(asked, allow_gpu=True)
    if as_json:
        _print_json(doctor_dict(hardware, budget, diagnose()))
    else:
        _stdout().print(doctor_view(hardware, budget, diagnose()))


def _find_model(name: str, trust_remote_code: bool) -> ModelProfile:
    from .profiles.find import find_model

    return find_model(name, trust_remote_code=trust_remote_code)


def _machine(
    asked: dict[str, Any], *, for_run: bool = False, allow_gpu: bool = False
) -> tuple[Hardware, Budget]:
    from .planner.request import require_cpu
    from .profiles.budget import decide_budget
    from .profiles.machine import this_machine
    from .profiles.named import find_hardware

    name, ram, vram = (asked.pop(key, None) for key in ("hardware", "ram", "vram"))
    hardware = find_hardware(name) if name else this_machine()
    if hardware.device == "cuda" and name is None and vram is None and not allow_gpu:
        hardware = replace(hardware, device="cpu")
    budget = decide_budget(hardware, ram_bytes=ram, vram_bytes=vram, for_run=for_run)
    if not allow_gpu:
        require_cpu(budget)
    return hardware, budget


def _request(asked: Mapping[str, Any], hardware: Hardware, lengths: TokenLengths | None) -> Request:
    from .planner.request import make_request

    casting = asked.get("input_casting")
    return make_request(
        {**asked, "input_casting": None if casting is None else casting == "on"}, hardware, lengths
    )


def _situation(profile: ModelProfile, hardware: Hardware, budget: Budget) -> Any:
    from .planner.estimating import Situation
    from .planner.tracer import baseline
    from .planner.versions import stack_versions

    return Situation(
        model=profile, hardware=hardware, budget=budget, baseline=baseline(), versions=stack_versions()
    )


def _taken_by_default(request: Request) -> tuple[str, ...]:
    defaults = {
        "batch_size": "batch size",
        "seq_len": "sequence length",
        "precision": "precision",
        "rank": "rank",
    }
    taken = [
        f"{text} {getattr(request.recipe, knob)}"
        for knob, text in defaults.items()
        if knob not in request.given
    ]
    return (f"taken by default: {', '.join(taken)}",) if taken else ()


def _prepare(profile: ModelProfile, asked: Mapping[str, Any]) -> Prepared:
    from .trainer.prepare import prepare_data
    from .trainer.weights import local_folder

    return prepare_data(
        asked["data"], task=asked["task"], tokenizer=local_folder(profile), max_length=asked["seq_len"]
    )


def _schedule(asked: dict[str, Any]) -> Schedule:
    from .planner.plan import Schedule

    knobs = {name: asked.pop(name, None) for name in ("epochs", "max_steps", "learning_rate", "seed")}
    return Schedule(**{name: value for name, value in knobs.items() if value is not None})


def _make_plan(profile: ModelProfile, data: Prepared | None, asked: dict[str, Any], *, for_run: bool) -> Plan:
    from .planner.planning import make_plan
    from .planner.rates import measured_rates
    from .planner.request import require_room
    from .planner.search import Task

    hardware, budget = _machine(asked, for_run=for_run)
    schedule = _schedule(asked)
    knobs = {name: value for name, value in asked.items() if name not in ("data", "task", "seq_len")}
    lengths = data.lengths if data is not None else None
    request = _request({**knobs, "seq_len": None if data else asked["seq_len"]}, hardware, lengths)
    situation = _situation(profile, hardware, budget)
    require_room(budget, situation.baseline)
    with _stderr().status("measuring this machine and tracing the model (cached afterwards)"):
        rates = {name: measured_rates(name, request.recipe.threads) for name in ("pinned", "default")}
        task = Task(
            situation=situation, start=request.recipe, given=request.given, schedule=schedule, lengths=lengths,
            rates=rates,  # type: ignore[arg-type]
        )  # fmt: skip
        return make_plan(task, data.reference if data is not None else None)


def _plan_for_run(model: str | None, trust_remote_code: bool, asked: dict[str, Any]) -> tuple[Plan, Prepared]:
    from .trainer.weights import with_weights

    if model is None or not asked["data"]:
        raise UsageError("fit-and-train needs --model and --data, or --plan", hint="try --data demo")
    profile = _find_model(model, trust_remote_code)
    if asked["init"] != "random":
        profile = with_weights(profile)
    data = _prepare(profile, asked)
    return _make_plan(profile, data, asked, for_run=True), data


def _replay(plan_file: Path, asked: Mapping[str, Any]) -> tuple[Plan, Prepared]:
    from .planner.documents import read_plan
    from .planner.replay import require_unchanged
    from .trainer.weights import with_weights

    found = read_plan(plan_file)
    reference: DataReference | None = found.data
    location = asked["data"] or (reference.location if reference else None)
    if location is None:
        raise UsageError("the plan names no data", hint="add --data")
    model = found.estimate.model
    if found.recipe.init != "random":
        model = with_weights(model)
    task = asked["task"] or (reference.task if reference else None)
    data = _prepare(model, {"data": location, "task": task, "seq_len": found.recipe.seq_len})
    return require_unchanged(found, model, data.reference), data


def _finish_plan(result: Plan, console: Console, *, quiet: bool) -> None:
    """Show a plan; leave with status 3 when it does not fit."""
    from .planner.planning import misses_bytes, what_would_help
    from .report.plan import no_plan_view, plan_view

    if result.estimate.fits:
        if not quiet:
            console.print(plan_view(result))
        return
    if quiet:
        _stderr().print(f"error: no plan fits; the closest misses by {format_size(misses_bytes(result))}")
    else:
        console.print(no_plan_view(result, misses_bytes(result), what_would_help(result)))
    sys.exit(EXIT_DOES_NOT_FIT)


def _stdout() -> Console:
    from rich.console import Console

    return Console(highlight=False)


def _stderr() -> Console:
    from rich.console import Console

    return Console(stderr=True, highlight=False)


def _print_json(document: Mapping[str, Any]) -> None:
    click.echo(json.dumps(document, indent=1))


def main() -> None:
    """Entry point: one line of error and a hint, never a traceback unless asked."""
    debug = "--debug" in sys.argv
    try:
        cli(args=[arg for arg in sys.argv[1:] if arg != "--debug"], prog_name="lplan", standalone_mode=False)
    except LplanError as error:
        if debug:
            raise
        _complain(str(error), error.hint, error.exit_code)
    except click.ClickException as error:
        ctx = error.ctx if isinstance(error, click.UsageError) else None
        hint = f"{ctx.command_path} --help shows what there is" if ctx else None
        _complain(error.format_message(), hint, error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        _complain("interrupted", None, 1)
    except Exception as error:
        if debug:
            raise
        _complain(f"{type(error).__name__}: {error}", "this is a bug in lplan; --debug shows where", 1)


def _complain(message: str, hint: str | None, exit_code: int) -> None:
    click.echo(f"error: {' '.join(message.split())}", err=True)
    if hint:
        click.echo(f"hint: {hint}", err=True)
    sys.exit(exit_code)
