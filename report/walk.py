"""Draws the walk from full fine-tuning to a plan as a waterfall."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import ConsoleOptions, RenderableType
from rich.text import Text

from ..planner.walk import Measure
from ..profiles.units import format_size, gib
from .style import BAD, GOOD, MUTED, STRONG, Adaptive, ruled_table
from .wording import change

_LEAST_BAR = 10


def walk_view(model: str, measures: Sequence[Measure], budget_bytes: int) -> RenderableType:
    """A row for each measure: what it saves, what it costs in time, the running total and a bar against the budget."""

    def draw(options: ConsoleOptions) -> Iterator[RenderableType]:
        yield Text(f"{model}: from full fine-tuning to the plan", style=STRONG)
        yield ""
        table = ruled_table()
        for head in ("measure", "setting", "saves", "time a token", "GiB", ""):
            table.add_column(head, justify="left" if head in ("measure", "setting", "") else "right")
        width = max(_LEAST_BAR, options.max_width - _TEXT)
        top = max(measure.peak_bytes for measure in measures)
        for measure in measures:
            table.add_row(
                measure.name,
                measure.setting,
                _saving(measure),
                _time(measure.time_ratio),
                Text(gib(measure.peak_bytes), style=GOOD if measure.fits else BAD),
                Text(
                    "█" * max(1, round(measure.peak_bytes / top * width)), style=GOOD if measure.fits else BAD
                ),
            )
        yield table
        yield ""
        yield Text(f"green fits {format_size(budget_bytes)}", style=MUTED)

    return Adaptive(draw)


_TEXT = 70
"""Cells of the columns before the bar, at most."""


def _saving(measure: Measure) -> Text:
    if measure.time_ratio is None:
        return Text("")
    if measure.saves_bytes >= 0:
        return Text(format_size(measure.saves_bytes))
    return Text(f"costs {format_size(-measure.saves_bytes)}", style=MUTED)


def _time(ratio: float | None) -> Text:
    if ratio is None:
        return Text("")
    text = change(ratio)
    return Text(text, style="" if text[0] in "+-" else MUTED)
