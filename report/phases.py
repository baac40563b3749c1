"""Tables with a column for each phase: which columns fit, how they are headed, which one is marked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from .style import GAP, MUTED, STRONG, ruled_table
from .wording import phase_head


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One line of a phase table: a label and a cell for each phase that has one."""

    label: str
    cells: Mapping[str, str]
    style: str = ""
    new_section: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Columns:
    """The phases that are shown, in order, with their heads, and those left out."""

    heads: Mapping[str, str]
    left_out: tuple[str, ...]


def fit_columns(phases: Sequence[str], rows: Sequence[Row], keep: Sequence[str], width: int) -> Columns:
    """The columns for `width` cells: full heads if they fit, else short ones, else fewer.

    `keep` names all phases, most important first; the last of them are left out first.
    """
    label_width = max(cell_len(row.label) for row in rows)
    full = {phase: phase for phase in phases}
    if label_width + _width(full, rows) <= width:
        return Columns(heads=full, left_out=())
    shown = list(phases)
    for phase in reversed(keep[1:]):
        if label_width + _width({p: phase_head(p) for p in shown}, rows) <= width:
            break
        shown.remove(phase)
    heads = {phase: phase_head(phase) for phase in shown}
    return Columns(heads=heads, left_out=tuple(phase for phase in phases if phase not in shown))


def _width(heads: Mapping[str, str], rows: Sequence[Row]) -> int:
    """Cells that the phases' columns take, with room for the mark beside a head."""
    return sum(
        max(
            *map(cell_len, head.split("\n")),
            len("▼ peak"),
            *(cell_len(row.cells.get(phase, "")) for row in rows),
        )
        + GAP
        for phase, head in heads.items()
    )


def phase_table(
    corner: str, rows: Sequence[Row], columns: Columns, *, marked: str | None, mark: str
) -> Table:
    """Rows by phases; the head of the `marked` phase carries `mark` above it and its cells are bold."""
    table = ruled_table()
    table.add_column(Text(corner, style=MUTED), no_wrap=True, vertical="bottom")
    for phase, head in columns.heads.items():
        text = f"{mark}\n{head}" if phase == marked else head
        table.add_column(Text(text), justify="right", no_wrap=True, vertical="bottom")
    for row in rows:
        if row.new_section:
            table.add_section()
        cells = (_cell(row, phase, phase == marked) for phase in columns.heads)
        table.add_row(Text(row.label, style=row.style), *cells)
    return table


def _cell(row: Row, phase: str, marked: bool) -> Text:
    return Text(row.cells.get(phase, ""), style=STRONG if marked else row.style)
