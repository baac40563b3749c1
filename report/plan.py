"""Draws a Plan: what was chosen, why, and over what; or why nothing could be."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import ConsoleOptions, RenderableType
from rich.table import Table
from rich.text import Text

from ..planner.plan import Advice, Decision, Plan, TimeEstimate, cost
from ..profiles.units import format_size
from .estimate import budget_line, header, peak_bar, verdict
from .other_phases import other_phases
from .style import BAD, MUTED, STRONG, Adaptive, ruled_table
from .wording import bullets, duration, rate, sentence

_VALUE = 16
"""Cells of a value, at most: as many as the longest word among them, so that reasons get the rest."""


def plan_view(plan: Plan, price_per_hour: float | None = None) -> RenderableType:
    """The recipe, every decision with its reason, the peak against the budget, the time and what it costs."""

    def draw(options: ConsoleOptions) -> Iterator[RenderableType]:
        yield header(plan.estimate, options.max_width)
        yield ""
        yield _decisions(plan.decisions)
        yield ""
        yield from peak_bar(plan.estimate, options.max_width)
        yield ""
        if plan.estimate.other_phases:
            yield from other_phases(plan.estimate)
            yield ""
        yield verdict(plan.estimate)
        if plan.time is not None:
            yield _time(plan.time, None if price_per_hour is None else cost(plan, price_per_hour))
        yield budget_line(plan.estimate)
        if plan.guidance:
            yield ""
            yield _guidance(plan.guidance)

    return Adaptive(draw)


def no_plan_view(closest: Plan, misses_bytes: int, suggestions: Sequence[str]) -> RenderableType:
    """Nothing fits: the closest plan, by how much it misses, and what would make it fit."""

    def draw(options: ConsoleOptions) -> Iterator[RenderableType]:
        budget = format_size(closest.estimate.budget.budget_bytes)
        misses = f": the closest one misses by {format_size(misses_bytes)}"
        yield Text.assemble((f"no plan fits {budget}", BAD), misses)
        if suggestions:
            yield ""
            yield bullets("what would make it fit", suggestions)
        yield ""
        yield Text("the closest", style=STRONG)
        yield header(closest.estimate, options.max_width)
        yield ""
        yield from peak_bar(closest.estimate, options.max_width)
        yield ""
        yield budget_line(closest.estimate)

    return Adaptive(draw)


def _decisions(decisions: Sequence[Decision]) -> Table:
    table = ruled_table()
    table.add_column("knob", no_wrap=True)
    table.add_column("value", overflow="fold", max_width=_VALUE)
    table.add_column("why", overflow="fold", ratio=3)
    table.add_column("instead of", overflow="fold", ratio=3)
    for decision in decisions:
        table.add_row(
            Text(decision.knob), Text(decision.value, style=STRONG), _why(decision), _instead_of(decision)
        )
    return table


def _why(decision: Decision) -> Text:
    if not decision.given:
        return Text(decision.reason)
    return Text.assemble(("given", "italic"), f": {decision.reason}" if decision.reason else "")


def _instead_of(decision: Decision) -> Text:
    return Text("\n".join(f"{other.value}: {other.reason}" for other in decision.rejected), style=MUTED)


def _guidance(guidance: Sequence[Advice]) -> RenderableType:
    lines = [f"{advice.text}. {sentence(advice.reason)} [{advice.source}]" for advice in guidance]
    return bullets("worth knowing (nothing was changed for it)", lines)


def _time(time: TimeEstimate, cost: float | None) -> Text:
    steps = f": {time.steps:,} steps of {duration(time.step_s)}, {rate(time.tokens_per_s)} tokens/s"
    priced = "" if cost is None else f"; costs {cost:,.2f}"
    return Text.assemble("takes ", (duration(time.total_s), STRONG), steps, priced)
