"""`lplan watch`: a run from another terminal, or any process."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..profiles.errors import UsageError
from ..profiles.units import format_size
from .shared import console

if TYPE_CHECKING:
    from ..planner.events import Sample

_LINE_EVERY_S = 1.0


@click.command()
@click.argument("run", type=click.Path(path_type=Path), required=False)
@click.option("--pid", type=click.IntRange(min=1), help="Any process, with everything it started.")
def watch(run: Path | None, pid: int | None) -> None:
    """Watch a run from another terminal, or the memory of any process until it ends."""
    if (run is None) == (pid is None):
        raise UsageError("watch needs a run folder or --pid N, one of them", hint="`lplan watch runs/…`")
    if run is not None:
        _watch_run(run)
    elif pid is not None:
        _watch_process(pid)


def _watch_run(run: Path) -> None:
    from ..planner.record import read_record
    from ..report.live import view_for
    from ..trainer.run_folder import RunFolder
    from ..trainer.watch import follow

    plan = read_record(run).plan
    with view_for(console(), plan.estimate if plan is not None else None) as view:
        for event in follow(RunFolder(run)):
            view.handle(event)


def _watch_process(pid: int) -> None:
    from ..trainer.watch import watch_process

    out = console()
    highest: list[Sample] = []
    told_s = [-_LINE_EVERY_S]

    def on_sample(sample: Sample) -> None:
        highest[:] = [max([*highest, sample], key=lambda one: one.rss_bytes)]
        if sample.t_s - told_s[0] >= _LINE_EVERY_S:
            told_s[0] = sample.t_s
            out.print(_line(sample), soft_wrap=True)

    try:
        watch_process(pid, on_sample)
    finally:
        if highest:
            out.print(f"at most {_line(highest[0])}", soft_wrap=True)


def _line(sample: Sample) -> str:
    parts = f"{format_size(sample.anonymous_bytes)} anonymous, {format_size(sample.file_bytes)} file-backed"
    swapped = f", {format_size(sample.swap_bytes)} swapped" if sample.swap_bytes else ""
    return f"{format_size(sample.rss_bytes)} after {sample.t_s:.1f} s: {parts}{swapped}"
