"""Draws an Estimate: what it costs, against what there is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from rich.console import ConsoleOptions, RenderableType
from rich.text import Text

from ..planner.estimate import COMPONENTS, Estimate, PhaseEstimate
from ..profiles.machine import THIS_MACHINE
from ..profiles.units import format_size, gib
from .other_phases import other_phases
from .phases import Row, fit_columns, phase_table
from .style import BAD, GOOD, MUTED, STRONG, Adaptive, budget_bar
from .wording import bullets, count, joined, percent, recipe_phrase, size_cell, when


def estimate_view(estimate: Estimate) -> RenderableType:
    """The whole estimate: header, components by phases, the peak against the budget, verdict, small print."""

    def draw(options: ConsoleOptions) -> Iterator[RenderableType]:
        width = options.max_width
        yield header(estimate, width)
        yield ""
        yield from _table(estimate, width)
        yield ""
        if estimate.other_phases:
            yield from other_phases(estimate)
            yield ""
        yield from peak_bar(estimate, width)
        yield ""
        yield verdict(estimate)
        yield budget_line(estimate)
        yield from host_line(estimate)
        yield from _small_print(estimate)

    return Adaptive(draw)


def header(estimate: Estimate, width: int) -> Text:
    """Model and recipe, a line each."""
    trainable = f"{estimate.trainable_parameters:,} trainable"
    share = percent(estimate.trainable_parameters, estimate.parameters)
    model = joined((f"{count(estimate.parameters)} parameters", f"{trainable} ({share})"), width)
    name = Text(estimate.model.id, style=STRONG)
    separator = " · " if len(estimate.model.id) + 3 + len(model) <= width else "\n"
    return Text.assemble(name, separator, model, "\n", joined(recipe_phrase(estimate.recipe), width))


def peak_bar(estimate: Estimate, width: int) -> Iterator[RenderableType]:
    """The peak against the budget, drawn and in percent."""
    yield _bar(estimate, width)
    yield _percentages(estimate)


def budget_line(estimate: Estimate) -> Text:
    """Why the budget is what it is."""
    budget = estimate.budget
    is_said = estimate.hardware.name == THIS_MACHINE or estimate.hardware.name in budget.reason
    machine = "" if is_said else f" on {estimate.hardware.name}"
    return Text(f"budget: {format_size(budget.budget_bytes)}{machine} ({budget.reason})", style=MUTED)


def host_line(estimate: Estimate) -> Iterator[Text]:
    """What a GPU run needs of the host, beside the verdict on the GPU's memory."""
    peak = estimate.host_peak
    if peak is None or peak.host is None:
        return
    need, room = peak.host.required_bytes, estimate.host_room_bytes
    text = f"host memory: at most {_of(need, room)} {when(peak.name)}"
    if need <= room:
        yield Text(text, style=MUTED)
    else:
        yield Text.assemble((f"{text}: misses by {format_size(need - room)}", BAD))


def verdict(estimate: Estimate) -> Text:
    """Whether it fits, in one sentence; the distance is that of the high estimate."""
    expected, high = _needed(estimate.peak)
    budget = estimate.budget.budget_bytes
    need = f"{_of(expected, budget)} {when(estimate.peak.name)}, at most {format_size(high)}"
    if estimate.fits:
        return Text.assemble(("fits", GOOD), f": {need}; {format_size(budget - high)} to spare")
    misses = "may miss" if expected <= budget else "misses"
    return Text.assemble(("does NOT fit", BAD), f": {need}; {misses} by {format_size(high - budget)}")


def _of(part: int, whole: int) -> str:
    """ "2.79 of 8.00 GiB", or both with their units where they differ."""
    small, large = format_size(part), format_size(whole)
    if small.endswith("GiB") and large.endswith("GiB"):
        return f"{gib(part)} of {large}"
    return f"{small} of {large}"


def _table(estimate: Estimate, width: int) -> Iterator[RenderableType]:
    rows = _rows(estimate)
    by_need = sorted(estimate.phases, key=lambda phase: -phase.required_bytes)
    names = [phase.name for phase in estimate.phases]
    columns = fit_columns(names, rows, [phase.name for phase in by_need], width)
    yield phase_table("GiB", rows, columns, marked=estimate.peak.name, mark="▼ peak")
    if columns.left_out:
        left_out = (phase for phase in estimate.phases if phase.name in columns.left_out)
        smaller = ", ".join(f"{phase.name} {size_cell(phase.peak.expected_bytes)}" for phase in left_out)
        yield Text(f"smaller phases (GiB): {smaller}", style=MUTED)


def _rows(estimate: Estimate) -> list[Row]:
    phases = estimate.phases
    known = dict.fromkeys((*COMPONENTS, *(name for phase in phases for name in phase.components)))
    rows = [
        Row(label=name, cells={phase.name: size_cell(phase.components.get(name, 0)) for phase in phases})
        for name in known
        if any(phase.components.get(name, 0) for phase in phases)
    ]
    return [*rows, *_totals(phases)]


def _totals(phases: Sequence[PhaseEstimate]) -> Iterator[Row]:
    values: dict[str, tuple[str, Callable[[PhaseEstimate], int]]] = {
        "expected": (STRONG, lambda phase: phase.peak.expected_bytes),
        "at least": (MUTED, lambda phase: phase.peak.low_bytes),
        "at most": ("", lambda phase: phase.peak.high_bytes),
        "of it file-backed": (MUTED, lambda phase: phase.file_bytes),
        "of it reserved": (MUTED, lambda phase: phase.cuda.reserved_bytes if phase.cuda else 0),
        "allocated": (MUTED, lambda phase: phase.cuda.allocated_bytes if phase.cuda else 0),
        "on the host, process": (MUTED, lambda phase: phase.host.process_bytes if phase.host else 0),
        "on the host, pinned": (MUTED, lambda phase: phase.host.pinned_bytes if phase.host else 0),
        "on the host, tensors": (MUTED, lambda phase: phase.host.pageable_bytes if phase.host else 0),
        "on the host, files": (MUTED, lambda phase: phase.host.file_bytes if phase.host else 0),
    }
    for label, (style, value) in values.items():
        if not any(value(phase) for phase in phases):
            continue
        cells = {phase.name: size_cell(value(phase)) for phase in phases}
        yield Row(label=label, cells=cells, style=style, new_section=label == "expected")


def _needed(phase: PhaseEstimate) -> tuple[int, int]:
    """Expected and high without the pages that the kernel can drop."""
    return phase.peak.expected_bytes - phase.reclaimable_bytes, phase.required_bytes


def _bar(estimate: Estimate, width: int) -> Text:
    budget = estimate.budget.budget_bytes
    label, end = "peak  ", f" {format_size(budget)}"
    bar = budget_bar(*_needed(estimate.peak), budget, max(10, width - len(label) - len(end)))
    return Text.assemble((label, STRONG), bar, end if estimate.fits else "", no_wrap=True)


def _percentages(estimate: Estimate) -> Text:
    budget = estimate.budget.budget_bytes
    expected, high = _needed(estimate.peak)
    text = f"      {percent(expected, budget)} of the budget expected, {percent(high, budget)} at most"
    if estimate.peak.reclaimable_bytes:
        text += (
            f"; without {format_size(estimate.peak.reclaimable_bytes)} of file pages that the kernel can drop"
        )
    return Text(text, style=MUTED)


def _small_print(estimate: Estimate) -> Iterator[RenderableType]:
    for title, lines in (("assumes", estimate.assumptions), ("not modelled", estimate.not_modelled)):
        if lines:
            yield ""
            yield bullets(title, lines)
