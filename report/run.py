"""Draws a finished run: predicted against measured, phase by phase, and how it ended."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from rich.cells import cell_len
from rich.console import ConsoleOptions, RenderableType
from rich.table import Table
from rich.text import Text

from ..planner.estimate import Estimate, PhaseEstimate, as_run
from ..planner.events import Outcome, PhasePeak
from ..planner.plan import TimeEstimate
from ..profiles.units import format_size, gib
from .style import BAD, GAP, GOOD, MUTED, STRONG, WARN, Adaptive, ruled_table
from .summary import RunSummary
from .wording import joined, rate, size_cell, when

_VERDICTS = {
    "done": ("done", GOOD),
    "interrupted": ("interrupted", WARN),
    "out-of-memory": ("out of memory", BAD),
    "hang": ("hung", BAD),
    "failed": ("failed", BAD),
}
_HEADS = (
    ("phase", "predicted", "range", "measured", "error", "in range", "anonymous", "file-backed"),
    ("phase", "predicted", "range", "measured", "error", "in range", "anon", "file"),
    ("phase", "predicted", "range", "measured", "error", "in range"),
    ("phase", "predicted", "range", "measured"),
)


def run_table(
    estimate: Estimate,
    peaks: Sequence[PhasePeak],
    outcome: Outcome | None,
    *,
    summary: RunSummary | None = None,
    time: TimeEstimate | None = None,
) -> RenderableType:
    """Every phase's prediction beside its measurement, and how the run ended.

    `summary` adds steps, loss and speed, and what samples saw of a phase that never ended.
    """
    measured = {peak.name: peak for peak in peaks}
    seen = summary.reached if summary is not None else {}

    def draw(options: ConsoleOptions) -> Iterator[RenderableType]:
        what = "memory of the GPU" if estimate.recipe.device == "cuda" else "resident set"
        title = f": the largest {what} of every phase, in GiB"
        yield Text.assemble(("predicted against measured", STRONG), title)
        yield ""
        phases = as_run(estimate, {*measured, *seen})
        rows = [_row(phase, measured.get(phase.name), seen) for phase in phases]
        yield _table(rows, options.max_width)
        yield Text(_footnote(estimate, measured), style=MUTED)
        yield ""
        if estimate.peak.name in measured:
            yield _peak_line(estimate, peaks)
        if summary is not None and summary.steps:
            yield Text(joined(tuple(_training(summary, time)), options.max_width))
        yield outcome_line(outcome)

    return Adaptive(draw)


def outcome_line(outcome: Outcome | None) -> Text:
    """How a run ended and, if there is something to do, what; a run without an end says that."""
    if outcome is None:
        why = ": the run is still going, or its supervisor was killed"
        return Text.assemble(("no end recorded", WARN), why)
    word, style = _VERDICTS[outcome.verdict]
    line = Text.assemble((word, style), f": {outcome.explanation}")
    if outcome.hint:
        line.append(f"\nhint: {outcome.hint}")
    return line


def error_of(predicted_bytes: int, measured_bytes: int) -> str:
    """The prediction's error in percent of the measurement: "+0.4 %" is too much, "-0.3 %" too little."""
    if measured_bytes == 0:
        return ""
    return f"{100 * (predicted_bytes - measured_bytes) / measured_bytes:+.1f} %"


def _table(rows: Sequence[tuple[Text, ...]], width: int) -> Table:
    heads = next((heads for heads in _HEADS if _width(heads, rows) <= width), _HEADS[-1])
    table = ruled_table()
    for head in heads:
        table.add_column(head, justify="left" if head in ("phase", "in range") else "right", no_wrap=True)
    for row in rows:
        table.add_row(*row[: len(heads)])
    return table


def _width(heads: Sequence[str], rows: Sequence[tuple[Text, ...]]) -> int:
    widths = (max(cell_len(head), *(row[i].cell_len for row in rows)) for i, head in enumerate(heads))
    return sum(width + GAP for width in widths) - GAP


def _row(phase: PhaseEstimate, peak: PhasePeak | None, seen: Mapping[str, int]) -> tuple[Text, ...]:
    span = f"{gib(phase.peak.low_bytes)}–{gib(phase.peak.high_bytes)}"
    predicted = (Text(phase.name), Text(size_cell(phase.peak.expected_bytes)), Text(span, style=MUTED))
    if peak is None:
        sampled = f"≥ {gib(seen[phase.name])}" if phase.name in seen else "–"
        return (*predicted, Text(sampled, style=MUTED), Text(), Text(), Text(), Text())
    return (
        *predicted,
        Text(size_cell(peak.measured_bytes), style=STRONG),
        Text(error_of(phase.peak.expected_bytes, peak.measured_bytes)),
        _place(phase, peak.measured_bytes),
        Text(size_cell(peak.anonymous_bytes)),
        Text(size_cell(peak.file_bytes)),
    )


def _place(phase: PhaseEstimate, rss_bytes: int) -> Text:
    if rss_bytes > phase.peak.high_bytes:
        return Text("ABOVE", style=BAD)
    if rss_bytes < phase.peak.low_bytes:
        return Text("below", style=WARN)
    return Text("yes", style=GOOD)


def _peak_line(estimate: Estimate, peaks: Sequence[PhasePeak]) -> Text:
    predicted = max(estimate.phases, key=lambda phase: phase.peak.expected_bytes)
    measured = max(peaks, key=lambda peak: peak.measured_bytes)
    error = error_of(predicted.peak.expected_bytes, measured.measured_bytes)
    expected = format_size(predicted.peak.expected_bytes)
    sizes = f"{format_size(measured.measured_bytes)} measured, {expected} predicted"
    where = when(measured.name)
    if measured.name != predicted.name:
        where = f"measured {where}, predicted {when(predicted.name)}"
    return Text.assemble(("peak", STRONG), f": {sizes} (", (error, STRONG), f"), {where}")


def _footnote(estimate: Estimate, measured: Mapping[str, PhasePeak]) -> str:
    note = "error: the prediction is too high (+) or too low (-)"
    if not all(phase.name in measured for phase in estimate.phases):
        note += "; ≥: so far; –: not reached"
    return note


def _training(summary: RunSummary, time: TimeEstimate | None) -> Iterator[str]:
    planned = f" of {summary.start.total_steps:,}" if summary.start else ""
    done = summary.metric.step if summary.metric is not None else 0
    yield f"{done:,}{planned} steps"
    if summary.losses:
        yield f"loss {summary.losses[0]:.3f} at first, {summary.losses[-1]:.3f} at last"
    if summary.evaluation is not None:
        yield f"held-out loss {summary.evaluation.loss:.3f}"
    if summary.tokens_per_s is not None:
        predicted = f", {rate(time.tokens_per_s)} predicted" if time is not None else ""
        yield f"{rate(summary.tokens_per_s)} tokens/s{predicted}"
