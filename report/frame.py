"""One picture of a running run, cut to the terminal it is drawn on."""

from __future__ import annotations

from collections.abc import Iterator

from rich.cells import cell_len
from rich.console import RenderableType
from rich.text import Text

from ..planner.estimate import Estimate, as_run
from ..planner.events import Start
from ..profiles.units import format_size
from .graph import MemoryGraph, legend
from .phases import Row, fit_columns, phase_table
from .run import outcome_line
from .style import BAD, MUTED, STRONG, progress_bar, sparkline
from .summary import RunSummary
from .wording import duration, enforcement, joined, rate, size_cell

_GRAPH_ROWS = 12
_FEWEST_GRAPH_ROWS = 3
_GRAPH_EXTRA = 3
"""Lines of a graph beside its rows: a blank one, the axis, the legend."""
_SPARKLINE = 24


def frame(
    summary: RunSummary, estimate: Estimate | None, width: int, height: int
) -> Iterator[RenderableType]:
    """Header, progress, loss, memory graph, phases, end; fewer of them where `height` is small."""
    if summary.start is None:
        yield Text("starting …", style=MUTED)
        return
    end: tuple[Text, ...] = (Text(), outcome_line(summary.outcome)) if summary.outcome is not None else ()
    left = height - 1 - sum(_lines(text, width) for text in end)
    for text in (*_header(summary.start), *_progress(summary, summary.start, width)):
        left -= _lines(text, width)
        if left >= 0:
            yield text
    table, table_lines = _phases(summary, estimate, width)
    rows = min(_GRAPH_ROWS, left - _GRAPH_EXTRA - table_lines - 1)
    if rows < _FEWEST_GRAPH_ROWS:
        rows = min(_GRAPH_ROWS, left - _GRAPH_EXTRA)
    if rows >= _FEWEST_GRAPH_ROWS:
        yield ""
        yield from _graph(summary, summary.start, width, rows)
        left -= rows + _GRAPH_EXTRA
    if table_lines and left > table_lines:
        yield ""
        yield table
    yield from end


def _lines(text: Text | str, width: int) -> int:
    """Lines that the text takes; one that is broken at words may take one more than its length says."""
    if isinstance(text, Text) and text.no_wrap:
        return 1
    lengths = [cell_len(line) for line in str(text).split("\n")]
    return sum(1 if length <= width else length // width + 2 for length in lengths)


def _header(start: Start) -> Iterator[Text]:
    yield Text.assemble((start.model, STRONG), f" → {start.run}", no_wrap=True, overflow="ellipsis")
    budget = f"budget {format_size(start.budget_bytes)}, {enforcement(start.limiter)}"
    yield Text(budget, style=MUTED, no_wrap=True, overflow="ellipsis")


def _progress(summary: RunSummary, start: Start, width: int) -> Iterator[Text | str]:
    step = summary.metric.step if summary.metric else 0
    share = step / start.total_steps if start.total_steps else 0.0
    doing = f"{summary.phase or 'starting'} · " if summary.outcome is None else ""
    before = f"{doing}step {step:,} of {start.total_steps:,} "
    after = f" {share:.0%}".replace("%", " %")
    yield ""
    yield Text.assemble(
        before, progress_bar(share, max(4, width - len(before) - len(after))), after, no_wrap=True
    )
    yield Text(joined(tuple(_figures(summary)), width))


def _figures(summary: RunSummary) -> Iterator[str]:
    yield f"{duration(summary.now_s)} so far"
    if summary.left_s is not None and summary.outcome is None:
        yield f"{duration(summary.left_s)} left"
    if summary.recent_tokens_per_s is not None:
        yield f"{rate(summary.recent_tokens_per_s)} tokens/s"
    if summary.losses:
        yield f"loss {summary.losses[-1]:.3f} {sparkline(summary.losses, _SPARKLINE)}".rstrip()
    if summary.evaluation is not None:
        yield f"held-out loss {summary.evaluation.loss:.3f}"


def _graph(summary: RunSummary, start: Start, width: int, rows: int) -> Iterator[Text]:
    graph = MemoryGraph(
        track=summary.memory,
        now_s=summary.now_s,
        plan_bytes=start.planned_peak_bytes,
        budget_bytes=start.budget_bytes,
        width=width,
        height=rows,
    )
    yield from graph.lines()
    yield legend(summary.sample, start.planned_peak_bytes, start.budget_bytes)


def _phases(summary: RunSummary, estimate: Estimate | None, width: int) -> tuple[RenderableType, int]:
    """Planned beside reached, phase by phase, and how many lines that takes."""
    phases = as_run(estimate, {*summary.reached}) if estimate else ()
    planned = {phase.name: phase.peak for phase in phases}
    names = list(dict.fromkeys((*planned, *summary.reached)))
    if not names:
        return "", 0
    rows = [Row(label="reached", cells={name: size_cell(size) for name, size in summary.reached.items()})]
    if planned:
        expected = {name: size_cell(peak.expected_bytes) for name, peak in planned.items()}
        rows.insert(0, Row(label="planned", cells=expected, style=MUTED))
    above = [
        name for name, size in summary.reached.items() if name in planned and size > planned[name].high_bytes
    ]
    if above:
        rows.append(Row(label="above plan", cells=dict.fromkeys(above, "!"), style=BAD))
    current = summary.phase if summary.phase in names and summary.outcome is None else None
    by_size = sorted(names, key=lambda name: (name != current, -summary.reached.get(name, 0)))
    columns = fit_columns(names, rows, by_size, width)
    table = phase_table("GiB", rows, columns, marked=current, mark="▼ now")
    head_lines = max(head.count("\n") + 1 + (name == current) for name, head in columns.heads.items())
    return table, head_lines + 1 + len(rows)
