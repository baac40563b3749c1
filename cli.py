"""The command line: the only place that catches LplanError."""

from __future__ import annotations

import os
import sys
from importlib import import_module

import click

from .profiles.errors import LplanError
from .profiles.secrets import redacted

_COMMANDS = {
    "estimate": "estimate.estimate",
    "plan": "plan.plan",
    "fit-and-train": "fit_and_train.fit_and_train",
    "evaluate": "evaluate.evaluate",
    "generate": "generate.generate",
    "merge": "merge.merge_adapter",
    "report": "report.report",
    "why": "why.why",
    "watch": "watch.watch",
    "explain": "explain.explain_plan",
    "compare": "compare.compare_ways",
    "fits": "fits.what_fits",
    "data": "data.inspect",
    "export": "export.export",
    "history": "history.history",
    "calibrate": "history.calibrate",
    "drift": "history.drift",
    "models": "models.models",
    "doctor": "doctor.doctor",
}
"""Module and function in the room of commands, in the order of the help."""


class _Commands(click.Group):
    """Imports a command when it is asked for: all of them take as long as an estimate."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return _command(cmd_name) if cmd_name in _COMMANDS else None


def _command(name: str) -> click.Command:
    module, function = _COMMANDS[name].split(".")
    command: click.Command = getattr(import_module(f".commands.{module}", __package__), function)
    return command


def every_command() -> dict[str, click.Command]:
    """By name."""
    return {name: _command(name) for name in _COMMANDS}


@click.group(
    cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]}, invoke_without_command=True
)
@click.version_option(package_name="lplan")
@click.option("--debug", is_flag=True, help="Show the whole traceback of an error.")
@click.pass_context
def cli(context: click.Context, debug: bool) -> None:
    """Plan LoRA fine-tuning for the memory you have, run it inside that budget, and see that it held."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


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
        _complain(*_explained(error, next((arg for arg in arguments if arg in _COMMANDS), "")))


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
