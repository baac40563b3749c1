"""The command line: the only place that catches LplanError."""

from __future__ import annotations

import os
import sys

import click

from .commands.compare import compare_ways
from .commands.data import inspect
from .commands.doctor import doctor
from .commands.estimate import estimate
from .commands.evaluate import evaluate
from .commands.explain import explain_plan
from .commands.export import export
from .commands.fit_and_train import fit_and_train
from .commands.fits import what_fits
from .commands.generate import generate
from .commands.history import calibrate, drift, history
from .commands.merge import merge_adapter
from .commands.models import models
from .commands.plan import plan
from .commands.report import report
from .commands.watch import watch
from .commands.why import why
from .profiles.errors import LplanError
from .profiles.secrets import redacted


@click.group(context_settings={"help_option_names": ["-h", "--help"]}, invoke_without_command=True)
@click.version_option(package_name="lplan")
@click.option("--debug", is_flag=True, help="Show the whole traceback of an error.")
@click.pass_context
def cli(context: click.Context, debug: bool) -> None:
    """Plan LoRA fine-tuning for the memory you have, run it inside that budget, and see that it held."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


for _command in (
    estimate,
    plan,
    fit_and_train,
    evaluate,
    generate,
    merge_adapter,
    report,
    why,
    watch,
    explain_plan,
    compare_ways,
    what_fits,
    inspect,
    export,
    history,
    calibrate,
    drift,
    models,
    doctor,
):
    cli.add_command(_command)


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
    click.echo(f"error: {redacted(' '.join(message.split()))}", err=True)
    click.echo(f"hint: {redacted(' '.join(hint.split()))}", err=True)
    sys.exit(exit_code)
