"""How everything looks: colours, glyphs, bars; and what becomes of them on a terminal without them.

Colour is never the only carrier of meaning. Where the output's encoding is not Unicode every glyph is
replaced by one ASCII character, here and nowhere else.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise

from rich import box
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

GOOD, BAD, WARN = "bold green", "bold red", "bold yellow"
MUTED, STRONG = "dim", "bold"
ANONYMOUS, FILE_BACKED = "cyan", "blue"
PLAN, BUDGET = "green", "red"

EIGHTHS = " ▁▂▃▄▅▆▇█"
FULL, SHADED, FREE, MARK = "█", "▒", "·", "│"
SEPARATOR = " · "
NOTHING = "·"
GAP = 2

_ASCII = str.maketrans(
    {
        **dict(zip(EIGHTHS[1:], "_.,;=+*#", strict=True)),
        SHADED: ":",
        FREE: "-",
        MARK: "|",
        "─": "-",
        "━": "=",
        "╌": "-",
        "└": "+",
        "├": "|",
        "▼": "v",
        "▸": ">",
        "•": "*",
        "→": ">",
        "×": "x",
        "–": "-",
        "—": "-",
        "−": "-",
        "±": "~",
        "≤": "<",
        "≥": ">",
        "’": "'",
        "“": '"',
        "”": '"',
    }
)


class Adaptive:
    """A renderable that is drawn when its width and height are known, in ASCII where nothing else prints."""

    def __init__(self, draw: Callable[[ConsoleOptions], Iterable[RenderableType]]) -> None:
        self._draw = draw

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        ascii_only = options.ascii_only
        unicode_options = options.update()
        unicode_options.encoding = "utf-8"
        for part in self._draw(options):
            for segment in console.render(part, unicode_options):
                yield Segment(to_ascii(segment.text), *segment[1:]) if ascii_only else segment


def to_ascii(text: str) -> str:
    """The text in ASCII, as wide as before."""
    if text.isascii():
        return text
    return "".join(c if c.isascii() else "?" * cell_len(c) for c in text.translate(_ASCII))


def ruled_table() -> Table:
    """An empty table with a rule under its head and `GAP` cells between its columns."""
    return Table(box=box.SIMPLE_HEAD, padding=(0, 0, 0, GAP - 1), pad_edge=False, show_edge=False)


def _cells(share: float, width: int) -> int:
    """Cells that a share of `width` fills; something is at least one cell."""
    return min(width, max(1, round(share * width))) if share > 0 else 0


def budget_bar(expected_bytes: int, high_bytes: int, budget_bytes: int, width: int) -> Text:
    """Expected solid, up to high shaded, the budget's end marked; as wide as `width`."""
    scale = max(high_bytes, budget_bytes)
    inner = max(1, width - 1)
    solid = _cells(expected_bytes / scale, inner)
    shaded = min(inner, max(solid + (high_bytes > expected_bytes), _cells(high_bytes / scale, inner)))
    end = _cells(budget_bytes / scale, inner)
    if high_bytes > budget_bytes:
        end = min(end, inner - 1)
    glyphs = FULL * solid + SHADED * (shaded - solid) + FREE * (inner - shaded)
    bar = Text(no_wrap=True)
    bar.append(glyphs[:end].rstrip(FREE), style="green" if high_bytes <= budget_bytes else "yellow")
    bar.append(FREE * (end - len(bar)), style=MUTED)
    bar.append(MARK, style=STRONG)
    bar.append(glyphs[end:], style="red")
    return bar


def progress_bar(share: float, width: int) -> Text:
    """How much of something is done."""
    done = min(width, max(0, int(share * width)))
    return Text.assemble((FULL * done, "cyan"), (FREE * (width - done), MUTED), no_wrap=True)


def sparkline(values: Sequence[float], width: int) -> str:
    """The course of `values` in up to `width` characters, each the mean of its share: lowest ▁, highest █."""
    finite = [value for value in values if math.isfinite(value)]
    if len(finite) < 2 or width < 2:
        return ""
    count = min(width, len(finite))
    edges = [i * len(finite) // count for i in range(count + 1)]
    means = [sum(finite[a:b]) / (b - a) for a, b in pairwise(edges)]
    low, high = min(means), max(means)
    if high == low:
        return EIGHTHS[4] * count
    return "".join(EIGHTHS[1 + round(7 * (mean - low) / (high - low))] for mean in means)
