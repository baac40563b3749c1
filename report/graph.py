"""Memory over time in block characters: file-backed below, anonymous above, plan and budget as lines."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.text import Text

from ..planner.events import Sample
from ..profiles.units import format_size, gib
from .style import ANONYMOUS, BUDGET, EIGHTHS, FILE_BACKED, FULL, MUTED, PLAN, SHADED, WARN
from .summary import MemoryPoint, MemoryTrack
from .wording import duration

_GUTTER = 12
_BUDGET_LINE, _PLAN_LINE = "━", "╌"
_OFF_SCALE = 2.0
"""A budget more than this many times what is used or planned is named, not drawn."""
_LEAST_PRESSURE = 1.0
"""Percent of the time that tasks waited for memory: less is not worth a warning."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MemoryGraph:
    """What to draw: a track up to `now_s`, in `height` rows of `width` cells, gutter included.

    Without a plan or a budget there is no line for it.
    """

    track: MemoryTrack
    now_s: float
    plan_bytes: int | None
    budget_bytes: int | None
    width: int
    height: int
    budget_name: str = "budget"

    def lines(self) -> Iterator[Text]:
        """The rows from the top, then the time axis."""
        labels = (_label(self.budget_name, self.budget_bytes or 0), _label("plan", self.plan_bytes or 0))
        gutter = max(_GUTTER, *map(len, labels))
        columns = list(self.track.columns(self.width - gutter - 1, self.now_s))
        scale = self._scale(columns)
        for row in reversed(range(self.height)):
            line = Text.assemble((f"{scale.label(row):>{gutter}}", MUTED), ("│", MUTED), no_wrap=True)
            for point in columns:
                line.append(*scale.cell(row, point))
            yield line
        end = f" {duration(self.now_s)}"
        axis = "─" * (len(columns) - len(end))
        yield Text(f"{'GiB 0':>{gutter}}└{axis}{end}", style=MUTED, no_wrap=True)

    def _scale(self, columns: Sequence[MemoryPoint | None]) -> _Scale:
        seen = max((point.used_bytes for point in columns if point), default=0)
        used = max(seen, self.plan_bytes or 0, 1)
        near = self.budget_bytes if self.budget_bytes and self.budget_bytes <= _OFF_SCALE * used else None
        return _Scale(
            top_bytes=max(used, near or 0),
            rows=self.height,
            plan_bytes=self.plan_bytes,
            budget_bytes=near,
            budget_name=self.budget_name,
        )


def _label(name: str, size_bytes: int) -> str:
    return f"{name} {gib(size_bytes)} "


def legend(
    sample: Sample | None, plan_bytes: int | None, budget_bytes: int | None, budget_name: str = "budget"
) -> Text:
    """What the glyphs mean, with the present figures."""
    parts = []
    if plan_bytes is not None:
        parts.append((_PLAN_LINE, PLAN, f"plan {gib(plan_bytes)}"))
    if budget_bytes is not None:
        parts.append((_BUDGET_LINE, BUDGET, f"{budget_name} {gib(budget_bytes)}"))
    if sample is not None:
        parts[:0] = _contents(sample)
    text = Text(no_wrap=True, overflow="ellipsis")
    for glyph, style, words in parts:
        text.append(glyph, style=style)
        text.append(f" {words}  ")
    if sample is not None and sample.swap_bytes:
        text.append(f"swapped {format_size(sample.swap_bytes)}  ", style=WARN)
    if sample is not None and (sample.pressure_some or 0.0) >= _LEAST_PRESSURE:
        text.append(f"waits for memory {sample.pressure_some:.0f} % of the time", style=WARN)
    return text


def _contents(sample: Sample) -> list[tuple[str, str, str]]:
    if sample.device_bytes is not None:
        return [(FULL, ANONYMOUS, f"GPU {gib(sample.device_bytes)}")]
    return [
        (FULL, ANONYMOUS, f"anonymous {gib(sample.anonymous_bytes)}"),
        (SHADED, FILE_BACKED, f"file {gib(sample.file_bytes)}"),
    ]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Scale:
    top_bytes: int
    rows: int
    plan_bytes: int | None
    budget_bytes: int | None
    budget_name: str

    def row_of(self, size_bytes: int) -> int:
        return min(self.rows - 1, size_bytes * self.rows // self.top_bytes)

    def eighths(self, size_bytes: int) -> int:
        return round(size_bytes * self.rows * 8 / self.top_bytes)

    def label(self, row: int) -> str:
        """The name and size of the row's line, if one runs there."""
        if self.budget_bytes is not None and row == self.row_of(self.budget_bytes):
            return _label(self.budget_name, self.budget_bytes)
        if self.plan_bytes is not None and row == self.row_of(self.plan_bytes):
            return _label("plan", self.plan_bytes)
        return ""

    def cell(self, row: int, point: MemoryPoint | None) -> tuple[str, str]:
        """The glyph and its style."""
        if point is not None:
            used = min(8, self.eighths(point.used_bytes) - 8 * row)
            file_backed = max(0, min(8, self.eighths(point.file_bytes) - 8 * row))
            if used > 0:
                return (SHADED, FILE_BACKED) if 2 * file_backed >= used else (EIGHTHS[used], ANONYMOUS)
        if self.budget_bytes is not None and row == self.row_of(self.budget_bytes):
            return _BUDGET_LINE, BUDGET
        if self.plan_bytes is not None and row == self.row_of(self.plan_bytes):
            return _PLAN_LINE, PLAN
        return " ", ""
