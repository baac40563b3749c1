"""Draws the ways to train a model side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from rich.console import ConsoleOptions, RenderableType
from rich.table import Table
from rich.text import Text

from ..planner.compare import Way
from ..profiles.units import format_size, gib
from .style import BAD, GOOD, MUTED, STRONG, Adaptive, ruled_table
from .wording import bullets, count, duration, size_cell

_KINDS = (
    ("weights", ("weights",)),
    ("adapters", ("adapters",)),
    ("gradients", ("gradients",)),
    ("optimizer", ("optimizer",)),
    ("activations", ("activations",)),
    ("logits", ("logits and loss",)),
)
_NARROW = {"activations": "acti-\nvations", "gradients": "gra-\ndients", "optimizer": "opti-\nmizer"}


def compare_view(
    model: str, ways: Sequence[Way], budget_bytes: int, *, whole_run: bool = True
) -> RenderableType:
    """What each way needs, costs and leaves; where its memory goes; what it means, and when to take it.

    `whole_run`: whether it is known how long a run is; else the time of a step is shown, and no cost.
    """

    def draw(_options: ConsoleOptions) -> Iterator[RenderableType]:
        yield Text(f"{model}: ways to train it within {format_size(budget_bytes)}", style=STRONG)
        yield ""
        yield _needs(ways, whole_run)
        if not whole_run:
            yield Text(
                "with --data or --max-steps: the whole run's time, and with --price its cost", style=MUTED
            )
        yield ""
        yield Text("memory at the peak, in GiB", style=STRONG)
        yield _memory(ways)
        yield ""
        yield bullets("what the choice means", _once(ways, lambda way: way.means))
        yield bullets("take it when", _once(ways, lambda way: way.take_when))
        yield Text(_advice(ways))

    return Adaptive(draw)


def _needs(ways: Sequence[Way], whole_run: bool) -> Table:
    priced = whole_run and any(way.cost is not None for way in ways)
    table = ruled_table()
    heads = (
        "way",
        "peak, GiB",
        "fits",
        "trained",
        "to keep",
        "checkpoint",
        "in all" if whole_run else "a step",
    )
    for head in (*heads, "cost") if priced else heads:
        table.add_column(head, justify="left" if head in ("way", "fits") else "right")
    for way in ways:
        cells: list[str | Text] = [
            way.name,
            Text(gib(way.peak_bytes), style=GOOD if way.fits else BAD),
            "yes" if way.fits else "no",
            count(way.trainable_parameters),
            format_size(way.saved_bytes),
            format_size(way.checkpoint_bytes),
            duration(way.total_s if whole_run else way.step_s),
        ]
        table.add_row(*cells, *([f"{way.cost:,.2f}"] if priced else []))
    return table


def _memory(ways: Sequence[Way]) -> Table:
    table = ruled_table()
    table.add_column("way")
    for head, _ in _KINDS:
        table.add_column(_NARROW.get(head, head), justify="right")
    table.add_column("rest", justify="right")
    for way in ways:
        sizes = [sum(way.components.get(part, 0) for part in parts) for _, parts in _KINDS]
        table.add_row(way.name, *map(size_cell, sizes), size_cell(way.peak_bytes - sum(sizes)))
    return table


def _once(ways: Sequence[Way], of: Callable[[Way], str]) -> list[str]:
    """One line for each kind of way, whatever its rank."""
    return list(dict.fromkeys(f"{way.name.split(' r ')[0]}: {of(way)}" for way in ways))


def _advice(ways: Sequence[Way]) -> str:
    fitting = [way for way in ways if way.fits]
    if not fitting:
        return "take: none fits with these batches; `lplan plan` looks for smaller ones"
    usual = next((way for way in fitting if way.name.startswith("LoRA")), fitting[-1])
    return f"take: {usual.name} to begin with"
