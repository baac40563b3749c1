"""Draws what comes besides a run: tokenizing, continuing, merging its adapter; a line a phase, and whether it fits."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from rich.console import RenderableType
from rich.text import Text

from ..planner.estimate import Estimate, PhaseEstimate
from ..profiles.units import format_size
from .style import BAD, GOOD, MUTED, ruled_table
from .wording import size_cell, when


def other_phases(estimate: Estimate) -> Iterator[RenderableType]:
    """A table, and a sentence for every phase that does not fit."""
    table = ruled_table()
    table.add_column(Text("besides the run, GiB", style=MUTED), no_wrap=True)
    values: dict[str, Callable[[PhaseEstimate], int]] = {
        "expected": lambda phase: phase.peak.expected_bytes,
        "at most": lambda phase: phase.peak.high_bytes,
        "file-backed": lambda phase: phase.file_bytes,
        "on the host, at most": _on_host,
    }
    for head in ("file-backed", "on the host, at most"):
        if not any(map(values[head], estimate.other_phases)):
            del values[head]
    for head in values:
        table.add_column(Text(head), justify="right", no_wrap=True)
    table.add_column(Text(""), no_wrap=True)
    for phase in estimate.other_phases:
        fits = Text("fits", style=GOOD) if estimate.holds(phase) else Text("does NOT fit", style=BAD)
        table.add_row(phase.name, *(size_cell(value(phase)) for value in values.values()), fits)
    yield table
    for phase in estimate.other_phases:
        if not estimate.holds(phase):
            yield _miss(estimate, phase)


def _on_host(phase: PhaseEstimate) -> int:
    return phase.host.required_bytes if phase.host else 0


def _miss(estimate: Estimate, phase: PhaseEstimate) -> Text:
    need, room, what = phase.required_bytes, estimate.budget.budget_bytes, "the budget"
    if need <= room:
        need, room, what = _on_host(phase), estimate.host_room_bytes, "the host's memory"
    text = f": up to {format_size(need)} {when(phase.name)}, {format_size(need - room)} over {what}"
    return Text.assemble((phase.name, BAD), text)
