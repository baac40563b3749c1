"""`lplan why`: how a run ended, or what a log says, and what to change."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import click

from ..options import JSON
from ..profiles.errors import LplanError, UsageError
from ..profiles.units import format_size
from .shared import console, print_json

_MOST = 16 << 20
"""Bytes of a log that are read, from its end."""


@click.command()
@click.argument("run", type=click.Path(path_type=Path), required=False)
@click.option("--log", type=click.Path(path_type=Path), metavar="FILE", help="Any traceback or kernel log.")
@JSON
def why(run: Path | None, log: Path | None, as_json: bool) -> None:
    """Explain how a run ended, or somebody else's log. The next knob is named."""
    if (run is None) == (log is None):
        raise UsageError("why needs a run folder or --log FILE, one of them", hint="`lplan why runs/…`")
    if run is not None:
        _explain_run(run, as_json=as_json)
    elif log is not None:
        _explain_log(log, as_json=as_json)


def _explain_run(run: Path, *, as_json: bool) -> None:
    from ..planner.estimate import with_rehearsal
    from ..planner.record import read_record, record_document
    from ..report.page import headline
    from ..report.run import outcome_line

    record = read_record(run)
    if as_json:
        document = record_document(record)
        kept = {name: document[name] for name in ("run", "outcome", "measured", "notes")}
        print_json({"schema": "lplan.why/1", **kept})
        return
    out = console()
    if record.outcome is None:
        out.print(_without_end(run), markup=False, soft_wrap=True)
    else:
        out.print(outcome_line(record.outcome), soft_wrap=True)
    if record.outcome is not None and record.outcome.evidence:
        out.print(f"evidence: {record.outcome.evidence}", markup=False, soft_wrap=True)
    for name, value in headline(record_document(record)):
        out.print(f"{value:>8}  {name}", markup=False)
    if record.plan is not None:
        for peak in record.peaks.values():
            phases = with_rehearsal(record.plan.estimate.phases)
            planned = next((p.peak for p in phases if p.name == peak.name), None)
            if planned is not None and peak.measured_bytes > planned.high_bytes:
                above = f"{format_size(peak.measured_bytes)}, at most {format_size(planned.high_bytes)} was planned"
                out.print(f"above plan: {peak.name} reached {above}", soft_wrap=True)


def _without_end(run: Path) -> str:
    from ..trainer.run_folder import RunFolder

    with suppress(LplanError):  # a folder that can only be read is nobody's
        if RunFolder(run).is_locked:
            return f"the run is still going: see `lplan watch {run}`"
    return (
        "no end recorded: lplan itself was killed, or its machine stopped, and nobody was left to tell; "
        f"continue with `lplan fit-and-train --resume {run}`"
    )


def _explain_log(log: Path, *, as_json: bool) -> None:
    from ..planner.post_mortem import explain_log

    finding = explain_log(_tail(log))
    if finding is None:
        raise LplanError(
            f"nothing in {log} is known here as an end for memory, disk or libraries",
            hint="hand over the whole log, with the kernel's lines (`dmesg`)",
        )
    if as_json:
        print_json({"schema": "lplan.why/1", **asdict(finding)})
        return
    out = console()
    out.print(f"{finding.cause}: {finding.explanation}", markup=False, soft_wrap=True)
    out.print(f"evidence: {finding.evidence[:400]}", markup=False, soft_wrap=True)
    for knob in finding.knobs:
        out.print(f"try: {knob}", markup=False, soft_wrap=True)


def _tail(log: Path) -> str:
    try:
        with log.open("rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - _MOST))
            return file.read().decode("utf-8", errors="replace")
    except OSError as error:
        raise UsageError(f"cannot read {log}: {error.strerror}", hint="name a text file by --log") from error
