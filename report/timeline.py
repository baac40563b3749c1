"""Draws a Timeline: live tensors over one training step, with the stages below."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from rich.console import ConsoleOptions, RenderableType
from rich.text import Text

from ..planner.timeline import Moment, Timeline
from ..profiles.units import gib
from .style import ANONYMOUS, EIGHTHS, MUTED, STRONG, Adaptive

HEIGHT = 12
_GUTTER = 7


def timeline_view(timeline: Timeline) -> RenderableType:
    """A graph of `HEIGHT` rows as wide as the terminal."""

    def draw(options: ConsoleOptions) -> Iterator[RenderableType]:
        moments = _fitted(timeline.moments, options.max_width - _GUTTER - 1)
        top = timeline.peak_bytes
        yield Text("one step: tensors alive, in GiB", style=STRONG)
        for row in reversed(range(HEIGHT)):
            label = gib(top) if row == HEIGHT - 1 else gib(timeline.resident_bytes) if row == 0 else ""
            line = Text(f"{label:>{_GUTTER - 1}} │", style=MUTED, no_wrap=True)
            line.append("".join(_cell(moment, row, top) for moment in moments), style=ANONYMOUS)
            yield line
        yield Text(f"{'':>{_GUTTER - 1}} └{_stages(moments)}", style=MUTED, no_wrap=True)

    return Adaptive(draw)


def _fitted(moments: Sequence[Moment], width: int) -> list[Moment]:
    each = max(1, -(-len(moments) // width))
    groups = (moments[start : start + each] for start in range(0, len(moments), each))
    return [max(group, key=lambda moment: moment.live_bytes) for group in groups]


def _cell(moment: Moment, row: int, top: int) -> str:
    eighths = round(moment.live_bytes * HEIGHT * 8 / top) - 8 * row
    return EIGHTHS[max(0, min(8, eighths))]


def _stages(moments: Sequence[Moment]) -> str:
    """The names of the stages under their stretches, cut to fit."""
    parts = []
    for stage, group in groupby(_STAGES.get(moment.stage, moment.stage) for moment in moments):
        width = len(list(group))
        name = stage if len(stage) + 1 <= width else ""
        parts.append(f"{name:─^{width}}" if name else "─" * width)
    return "".join(parts)


_STAGES = {"batch": "forward", "head": "loss", "after backward": "optimizer", "zero": "optimizer"}
