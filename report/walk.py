"""Draws the walk from full fine-tuning to a plan as a waterfall."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import ConsoleOptions, RenderableType
from rich.text import Text

from ..planner.walk import Measure
from ..profiles.units import format_size, gib
from .style import BAD, GAP, GOOD, MUTED, STRONG, Adaptive, ruled_table
from .wording import change

_LEAST_BAR = 10
_HEADS = ("measure", "setting", "saves", "time a token", "GiB")


def walk_view(model: str, measures: Sequence[Measure], budget_bytes: int) -> RenderableType:
    """A row for each measure: what it saves, what it costs in time, the running total and a bar against the budget."""

    def draw(options: ConsoleOptions) -> Iterator[RenderableType]:
        yield Text(f"{model}: from full fine-tuning to the plan", style=STRONG)
        yield ""
        rows = [_row(measure) for measure in measures]
        table = ruled_table()
        for head in _HEADS:
            table.add_column(head, justify="left" if head in ("measure", "setting") else "right")
        table.add_column("", no_wrap=True)
        width = max(_LEAST_BAR, options.max_width - _text_width(rows))
        top = max(measure.peak_bytes for measure in measures)
        for measure, row in zip(measures, rows, strict=True):
            bar = "█" * max(1, round(measure.peak_bytes / top * width))
            table.add_row(*row, Text(bar, style=_style(measure)))
        yield table
        yield ""
        yield Text(f"green fits {format_size(budget_bytes)}", style=MUTED)

    return Adaptive(draw)


def _row(measure: Measure) -> tuple[Text, ...]:
    total = Text(gib(measure.peak_bytes), style=_style(measure))
    return Text(measure.name), Text(measure.setting), _saving(measure), _time(measure.time_ratio), total


def _text_width(rows: Sequence[Sequence[Text]]) -> int:
    """Cells of the columns before the bar, and of the gaps after them."""
    columns = zip(*([Text(head) for head in _HEADS], *rows), strict=True)
    return sum(max(cell.cell_len for cell in column) + GAP for column in columns)


def _style(measure: Measure) -> str:
    return GOOD if measure.fits else BAD


def _saving(measure: Measure) -> Text:
    if measure.time_ratio is None:
        return Text("")
    if measure.saves_bytes == 0:
        return Text("·", style=MUTED)
    if measure.saves_bytes > 0:
        return Text(format_size(measure.saves_bytes))
    return Text(f"costs {format_size(-measure.saves_bytes)}", style=MUTED)


def _time(ratio: float | None) -> Text:
    if ratio is None:
        return Text("")
    text = change(ratio)
    return Text(text, style="" if text[0] in "+-" else MUTED)
