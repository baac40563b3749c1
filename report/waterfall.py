"""The walk from full fine-tuning to a plan as a waterfall chart: bars from running total to running total."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ..planner.walk import Measure
from ..profiles.units import GIB, format_size, gib
from .picture import Box, Label, Line, Picture
from .wording import change

WIDTH = 960
_LEFT, _RIGHT, _TOP, _ROW, _BAR = 300, 200, 92, 34, 20
"""Room for the names, for the figures, for the title; the height of a row and of its bar."""
_TICKS = (0.25, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500)


def waterfall(model: str, measures: Sequence[Measure], budget_bytes: int) -> Picture:
    """A row for each measure: what it takes off the total, or adds to it; then what is left, against the budget."""
    rows = len(measures) + 1
    shapes = (
        *_axis(measures, budget_bytes, rows),
        *_heads(model),
        *(shape for row in range(len(measures)) for shape in _row(measures, budget_bytes, row)),
        *_last(measures, budget_bytes),
        *_budget(measures, budget_bytes, rows),
    )
    title = f"{model}: from full fine-tuning to the plan"
    return Picture(width=WIDTH, height=_TOP + rows * _ROW + 40, title=title, shapes=shapes)


def _at(size_bytes: int, measures: Sequence[Measure], budget_bytes: int) -> float:
    top = max(budget_bytes, *(_reach(measures)))
    return _LEFT + size_bytes / top * (WIDTH - _LEFT - _RIGHT)


def _reach(measures: Sequence[Measure]) -> list[int]:
    return [measure.peak_bytes for measure in measures]


def _axis(measures: Sequence[Measure], budget_bytes: int, rows: int) -> Iterator[Line | Label]:
    top = max(budget_bytes, *_reach(measures))
    step = next((tick for tick in _TICKS if top / GIB / tick <= 6), _TICKS[-1])
    bottom = _TOP + rows * _ROW
    for index in range(int(top / GIB / step) + 1):
        x = _at(int(index * step * GIB), measures, budget_bytes)
        yield Line(x1=x, y1=_TOP, x2=x, y2=bottom, colour="grid")
        yield Label(
            x=x + 4, y=bottom + 12, text=f"{index * step:g} GiB", colour="muted", size=11, from_end=False
        )


def _heads(model: str) -> Iterator[Label]:
    yield Label(x=20, y=28, text=f"{model}: from full fine-tuning to the plan", size=18)
    yield Label(x=20, y=54, text="peak memory, a measure at a time", colour="muted")
    yield Label(x=WIDTH - 20, y=_TOP - 12, text="time a token", colour="muted", size=11, from_end=True)
    yield Label(x=WIDTH - 110, y=_TOP - 12, text="memory", colour="muted", size=11, from_end=True)


def _row(measures: Sequence[Measure], budget_bytes: int, row: int) -> Iterator[Box | Line | Label]:
    measure = measures[row]
    middle = _TOP + row * _ROW + _ROW / 2
    here = _at(measure.peak_bytes, measures, budget_bytes)
    before = _at(measure.peak_bytes + measure.saves_bytes, measures, budget_bytes)
    first = measure.time_ratio is None
    start, colour = (_LEFT, "total") if first else (min(here, before), "saved" if before >= here else "added")
    yield from _names(middle, measure.name, measure.setting)
    width = max(2.0, (here if first else max(here, before)) - start)
    yield Box(x=start, y=middle - _BAR / 2, width=width, height=_BAR, colour=colour)
    yield Line(x1=here, y1=middle + _BAR / 2, x2=here, y2=middle + _ROW - _BAR / 2, colour="muted")
    figure = format_size(measure.peak_bytes) if first else _changed(measure.saves_bytes)
    yield Label(x=WIDTH - 110, y=middle, text=figure, colour="ink" if first else colour, from_end=True)
    if measure.time_ratio is not None:
        yield Label(x=WIDTH - 20, y=middle, text=change(measure.time_ratio), colour="muted", from_end=True)


def _changed(saves_bytes: int) -> str:
    text = gib(abs(saves_bytes))
    return "the same" if text == "0.00" else f"{'-' if saves_bytes > 0 else '+'}{text} GiB"


def _last(measures: Sequence[Measure], budget_bytes: int) -> Iterator[Box | Line | Label]:
    middle = _TOP + len(measures) * _ROW + _ROW / 2
    here = _at(measures[-1].peak_bytes, measures, budget_bytes)
    yield from _names(middle, "the plan", "fits" if measures[-1].fits else "does not fit")
    yield Box(x=_LEFT, y=middle - _BAR / 2, width=max(2.0, here - _LEFT), height=_BAR, colour="total")
    yield Label(x=WIDTH - 110, y=middle, text=format_size(measures[-1].peak_bytes), from_end=True)


def _names(middle: float, name: str, setting: str) -> Iterator[Label]:
    yield Label(x=20, y=middle, text=name)
    yield Label(x=_LEFT - 12, y=middle, text=setting, colour="muted", size=12, from_end=True)


def _budget(measures: Sequence[Measure], budget_bytes: int, rows: int) -> Iterator[Line | Label]:
    x = _at(budget_bytes, measures, budget_bytes)
    yield Line(x1=x, y1=_TOP - 6, x2=x, y2=_TOP + rows * _ROW, colour="budget", dashed=True)
    on_the_left = x > WIDTH / 2
    text = f"budget {format_size(budget_bytes)}"
    yield Label(
        x=x - 6 if on_the_left else x + 6,
        y=_TOP - 12,
        text=text,
        colour="budget",
        size=12,
        from_end=on_the_left,
    )
