"""`lplan watch`: a run from another terminal, or any process."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..options import JSON
from ..profiles.errors import UsageError
from .shared import console, print_json

if TYPE_CHECKING:
    from ..planner.events import Sample


@click.command()
@click.argument("run", type=click.Path(path_type=Path), required=False)
@click.option("--pid", type=click.IntRange(min=1), help="Any process, with everything it started.")
@JSON
def watch(run: Path | None, pid: int | None, as_json: bool) -> None:
    """Watch a run from another terminal, or any process. A process is watched until it ends."""
    if (run is None) == (pid is None):
        raise UsageError("watch needs a run folder or --pid N, one of them", hint="`lplan watch runs/…`")
    if run is not None and as_json:
        raise UsageError("--json goes with --pid", hint=f"`lplan report {run} --json` says all of a run")
    if run is not None:
        _watch_run(run)
    elif pid is not None:
        _watch_process(pid, as_json=as_json)


def _watch_run(run: Path) -> None:
    from ..planner.events import Start
    from ..planner.record import read_record
    from ..report.live import view_for
    from ..trainer.run_folder import RunFolder
    from ..trainer.watch import follow

    plan = read_record(run).plan
    with view_for(console(), plan.estimate if plan is not None else None) as view:
        for event in follow(RunFolder(run)):
            if isinstance(event, Start) and (now := read_record(run).plan) is not None:
                view.plan(now.estimate)
            view.handle(event)


def _watch_process(pid: int, *, as_json: bool) -> None:
    from ..profiles.cgroup import memory_groups
    from ..report.process import ProcessView
    from ..trainer.watch import watch_process

    seen: list[Sample] = []
    groups = memory_groups(pid=pid)
    limits = [group.limit_bytes for group in groups if group.limit_bytes is not None]
    view = ProcessView(console(), f"process {pid}", min(limits, default=None))

    def on_sample(sample: Sample) -> None:
        highest = max([*seen[1:2], sample], key=lambda one: one.rss_bytes)
        seen[:] = [sample, highest]
        if not as_json:
            view.handle(sample)

    with nullcontext() if as_json else view:
        try:
            watch_process(pid, on_sample)
        finally:
            if seen and as_json:
                print_json(_document(pid, seen, limits))


def _document(pid: int, seen: list[Sample], limits: list[int]) -> dict[str, Any]:
    last, highest = seen
    return {
        "schema": "lplan.watch/1",
        "pid": pid,
        "watched_s": last.t_s,
        "limit_bytes": min(limits, default=None),
        "highest": asdict(highest),
        "last": asdict(last),
    }
