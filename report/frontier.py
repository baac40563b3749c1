"""Draws memory against time, and what another budget would buy."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import ConsoleOptions, RenderableType
from rich.table import Table
from rich.text import Text

from ..planner.frontier import Option
from ..planner.plan import Plan
from ..profiles.units import format_size, gib
from .style import BAD, GOOD, MUTED, STRONG, Adaptive, ruled_table
from .wording import duration, rate


def frontier_view(points: Sequence[Option]) -> RenderableType:
    """A row for each recipe that no other one beats in memory and time, the fastest first."""

    def draw(_options: ConsoleOptions) -> Iterator[RenderableType]:
        budget = format_size(points[0].budget_bytes)
        yield Text(f"memory against time; the budget is {budget}", style=STRONG)
        yield ""
        table = _table("needs, GiB")
        for point in points:
            needs = Text(gib(point.required_bytes), style=GOOD if point.fits else BAD)
            table.add_row(needs, "yes" if point.fits else "no", *_figures(point))
        yield table

    return Adaptive(draw)


def what_if_view(plan: Plan, others: Sequence[tuple[int, Option]]) -> RenderableType:
    """A row for each budget beside the plan's own: what would be chosen, and how much faster it would be."""

    def draw(_options: ConsoleOptions) -> Iterator[RenderableType]:
        yield Text("with another budget", style=STRONG)
        yield ""
        table = _table("budget, GiB")
        for _, other in sorted(others, key=lambda pair: pair[0]):
            table.add_row(gib(other.budget_bytes), "yes" if other.fits else "no", *_figures(other))
        yield table
        yield ""
        for difference, other in others:
            yield Text(_said(plan, difference, other))

    return Adaptive(draw)


def _table(first: str) -> Table:
    table = ruled_table()
    for head in (first, "fits", "batch", "checkpointing", "loss", "a step", "tokens/s"):
        left = head in ("fits", "checkpointing", "loss")
        table.add_column(head, justify="left" if left else "right", no_wrap=True)
    return table


def _figures(option: Option) -> tuple[str | Text, ...]:
    recipe = option.recipe
    batch = f"{recipe.batch_size} × {recipe.accumulation}"
    return (
        batch,
        recipe.checkpointing,
        Text(recipe.loss, style=MUTED),
        duration(option.step_s),
        rate(option.tokens_per_s),
    )


def _said(plan: Plan, difference: int, other: Option) -> str:
    what = f"{format_size(abs(difference))} {'more' if difference > 0 else 'less'}"
    if not other.fits:
        return f"{what}: nothing fits"
    if plan.time is None or not plan.estimate.fits:
        return f"{what}: fits"
    ratio = other.tokens_per_s / plan.time.tokens_per_s
    if abs(ratio - 1) < 0.005:
        return f"{what}: as fast"
    return f"{what}: {ratio - 1:+.0%}".replace("%", " %") + " tokens/s"
