"""Draws the ways to train a model side by side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import ConsoleOptions, RenderableType
from rich.text import Text

from ..planner.compare import Way
from ..profiles.units import format_size, gib
from .style import BAD, GOOD, MUTED, STRONG, Adaptive, ruled_table
from .wording import bullets, count, duration


def compare_view(model: str, ways: Sequence[Way], budget_bytes: int) -> RenderableType:
    """A row for each way, then what each means and which to take."""

    def draw(_options: ConsoleOptions) -> Iterator[RenderableType]:
        priced = any(way.cost is not None for way in ways)
        yield Text(f"{model}: ways to train it within {format_size(budget_bytes)}, in GiB", style=STRONG)
        yield ""
        table = ruled_table()
        for head in ("way", "peak", "weights", "state", "rest", "trained", "to keep", "in all"):
            table.add_column(head, justify="left" if head == "way" else "right")
        if priced:
            table.add_column("cost", justify="right")
        for way in ways:
            cells: list[str | Text] = [
                way.name,
                Text(gib(way.peak_bytes), style=GOOD if way.fits else BAD),
                gib(way.weights_bytes),
                gib(way.state_bytes),
                gib(way.rest_bytes),
                count(way.trainable_parameters),
                format_size(way.saved_bytes),
                duration(way.total_s),
            ]
            table.add_row(*cells, *([f"{way.cost:.2f}"] if priced else []))
        yield table
        yield ""
        yield Text("state: adapters, gradients, optimizer; green fits", style=MUTED)
        yield ""
        meanings = dict.fromkeys(f"{way.name.split(' r ')[0]}: {way.means}" for way in ways)
        yield bullets("what the choice means", list(meanings))
        yield Text(_advice(ways))

    return Adaptive(draw)


def _advice(ways: Sequence[Way]) -> str:
    fitting = [way for way in ways if way.fits]
    if not fitting:
        return "take: none fits with these batches; `lplan plan` looks for smaller ones"
    usual = next((way for way in fitting if way.name.startswith("LoRA")), fitting[-1])
    return f"take: {usual.name} to begin with"
