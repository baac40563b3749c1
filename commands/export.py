"""`lplan export`: a plan as another program's script or configuration."""

from __future__ import annotations

from pathlib import Path

import click

from ..options import JSON
from ..profiles.errors import UsageError
from .shared import console, print_json

_TARGETS = ("hf-script", "sft-script", "accelerate", "deepspeed", "axolotl", "llama-factory", "env")


@click.command()
@click.option(
    "--plan", "plan_file", type=click.Path(path_type=Path), required=True, help="Of lplan plan --output."
)
@click.option("--to", "target", type=click.Choice(_TARGETS), required=True, help="What to write.")
@click.option("--output", type=click.Path(path_type=Path), help="The new file. Default: stdout.")
@click.option(
    "--messages",
    type=click.Path(path_type=Path),
    help="Also write the plan's data, as JSON lines of messages.",
)
@JSON
def export(plan_file: Path, target: str, output: Path | None, messages: Path | None, as_json: bool) -> None:
    """Write a plan as a script, or for another program. With what the program does otherwise than planned."""
    from ..planner.documents import read_plan
    from ..planner.export.targets import export_plan
    from ..trainer.messages import write_messages

    plan = read_plan(plan_file)
    exported = export_plan(plan, target)
    if output is not None:
        _write_new(output, exported.text)
    if messages is not None:
        write_messages(plan, messages)
    if as_json:
        document = {"target": target, "text": exported.text, "unsaid": dict(exported.unsaid)}
        print_json({"schema": "lplan.export/1", **document})
        return
    if output is None:
        click.echo(exported.text, nl=False)
    for knob, why in exported.unsaid.items():
        said = f"not in the file: {knob.replace('_', ' ')}: {why}"
        console(stderr=True).print(said, markup=False, emoji=False)


def _write_new(file: Path, text: str) -> None:
    try:
        with file.open("x", encoding="utf-8") as stream:
            stream.write(text)
    except FileExistsError as error:
        raise UsageError(
            f"{file} exists: it is not overwritten", hint="name another file by --output"
        ) from error
    except OSError as error:
        raise UsageError(
            f"cannot write {file}: {error.strerror}", hint="name another file by --output"
        ) from error
