"""Memory of a run over time as a picture of its own: what was used, phases, the planned peak and the limit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any

from ..profiles.units import GIB, gib
from .charts import MemorySeries, round_steps, series_of
from .picture import Area, Box, Label, Line, Picture
from .wording import duration

WIDTH, HEIGHT = 960, 420
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 24, 96, 56
_LETTER = 8
"""Units of width of a letter of a phase's name, and its margin."""
_LINES = {"plan": ("planned peak", "saved"), "limit": ("limit", "budget")}


def memory_picture(document: Mapping[str, Any]) -> Picture | None:
    """The picture of `planner.record.record_document`; None with fewer than two samples."""
    series = series_of(document)
    if series is None:
        return None
    title = f"{document['start']['model'] if document['start'] else document['run']}: memory over time"
    shapes = (
        Label(x=20, y=30, text=title, size=18),
        *_key(series),
        *_grid(series),
        Area(points=tuple(_edge(series, series.total, series.below)), colour="anonymous"),
        Area(points=tuple(_edge(series, series.below, series.floor)), colour="file"),
        *_phases(series, document),
        *_lines(series),
    )
    return Picture(width=WIDTH, height=HEIGHT, title=title, shapes=shapes)


def _x(series: MemorySeries, t_s: float) -> float:
    return _LEFT + (WIDTH - _LEFT - _RIGHT) * min(1.0, t_s / series.end_s)


def _y(series: MemorySeries, size_bytes: float) -> float:
    return HEIGHT - _BOTTOM - (HEIGHT - _TOP - _BOTTOM) * size_bytes / series.top_bytes


def _edge(
    series: MemorySeries, above: tuple[tuple[float, int], ...], below: tuple[tuple[float, int], ...]
) -> Iterator[tuple[float, float]]:
    for t_s, size in (*above, *reversed(below)):
        yield _x(series, t_s), _y(series, size)


def _key(series: MemorySeries) -> Iterator[Box | Line | Label]:
    x = 20.0
    for text, colour in (("anonymous", "anonymous"), ("file-backed", "file")):
        yield Box(x=x, y=52, width=14, height=10, colour=colour)
        yield Label(x=x + 20, y=57, text=text, colour="muted", size=12)
        x += 36 + _LETTER * len(text)
    for name in series.lines:
        text, colour = _LINES[name]
        text = f"{text} {gib(series.lines[name][-1][2])} GiB"
        yield Line(x1=x, y1=57, x2=x + 18, y2=57, colour=colour, dashed=name == "plan")
        yield Label(x=x + 24, y=57, text=text, colour="muted", size=12)
        x += 40 + _LETTER * len(text)


def _grid(series: MemorySeries) -> Iterator[Line | Label]:
    for size in round_steps(series.top_bytes / GIB, GIB):
        y = _y(series, size)
        yield Line(x1=_LEFT, y1=y, x2=WIDTH - _RIGHT, y2=y, colour="grid")
        yield Label(x=_LEFT - 8, y=y, text=gib(size), colour="muted", size=12, from_end=True)
    yield Label(x=_LEFT - 8, y=_TOP - 16, text="GiB", colour="muted", size=12, from_end=True)
    end = Label(
        x=WIDTH - _RIGHT, y=HEIGHT - 16, text=duration(series.end_s), colour="muted", size=12, from_end=True
    )
    yield end


def _phases(series: MemorySeries, document: Mapping[str, Any]) -> Iterator[Line | Label]:
    begins = [
        *((_x(series, phase["t_s"]), phase["name"]) for phase in document["phases"]),
        (WIDTH - _RIGHT, ""),
    ]
    for (left, name), (right, _) in pairwise(begins):
        yield Line(x1=left, y1=_TOP, x2=left, y2=HEIGHT - _BOTTOM, colour="muted", dashed=True)
        if right - left >= _LETTER * (len(name) + 1):
            yield Label(x=left + 4, y=HEIGHT - _BOTTOM + 14, text=name, colour="muted", size=12)


def _lines(series: MemorySeries) -> Iterator[Line]:
    for name, stretches in series.lines.items():
        for begin_s, until_s, size in stretches:
            y, left, right = _y(series, size), _x(series, begin_s), _x(series, until_s)
            yield Line(x1=left, y1=y, x2=right, y2=y, colour=_LINES[name][1], dashed=name == "plan")
