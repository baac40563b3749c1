"""Draws what each knob would save or cost."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import RenderableType
from rich.text import Text

from ..planner.toggles import Toggle
from ..profiles.units import format_size
from .style import BAD, GOOD, MUTED, ruled_table
from .wording import change


def toggles_view(toggles: Sequence[Toggle]) -> RenderableType:
    """A table: knob, value, what the peak would be, what that saves, and the time a token."""
    table = ruled_table()
    for head in ("knob", "instead", "peak", "saves", "time a token"):
        table.add_column(head, justify="left" if head in ("knob", "instead") else "right")
    for toggle in toggles:
        table.add_row(
            toggle.knob,
            toggle.value,
            Text(format_size(toggle.peak_bytes), style="" if toggle.fits else BAD),
            _saving(toggle.saves_bytes),
            _time(toggle.time_ratio),
        )
    return table


def _saving(saves_bytes: int) -> Text:
    if saves_bytes >= 0:
        return Text(format_size(saves_bytes), style=GOOD)
    return Text(f"costs {format_size(-saves_bytes)}", style=MUTED)


def _time(ratio: float | None) -> Text:
    if ratio is None:
        return Text("?", style=MUTED)
    text = change(ratio)
    same = text[0] not in "+-"
    return Text(text, style=MUTED if same else BAD if ratio > 1 else GOOD)
