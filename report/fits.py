"""Draws what fits where."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import ConsoleOptions, RenderableType
from rich.text import Text

from ..planner.fits import Fit
from ..profiles.units import gib
from .style import BAD, GOOD, MUTED, NOTHING, STRONG, Adaptive, ruled_table
from .wording import rate

_WIDE = 100


def fits_view(rows: Sequence[Fit]) -> RenderableType:
    """A row for each pair: the best recipe that fits, or what stands against it."""

    def draw(options: ConsoleOptions) -> Iterator[RenderableType]:
        by_machine = len({row.model for row in rows}) == 1
        first = rows[0]
        yield Text(
            f"{first.model}: where it fits" if by_machine else f"what fits on {first.machine}", style=STRONG
        )
        yield ""
        wide = options.max_width >= _WIDE
        table = ruled_table()
        table.add_column("machine" if by_machine else "model", overflow="fold")
        for head in ("needs", "of GiB", "batch"):
            table.add_column(head, justify="right", no_wrap=True)
        for head in ("precision", "recompute") if wide else ("how",):
            table.add_column(head, no_wrap=True)
        for head in ("tokens/s", "longest"):
            table.add_column(head, justify="right", no_wrap=True)
        for row in rows:
            name = row.machine if by_machine else row.model.rpartition("/")[2]
            table.add_row(Text(name), *_figures(row, wide=wide))
        yield table
        yield ""
        yield Text("needs: the high estimate; longest: tokens of one sequence at a time", style=MUTED)
        reasons = {row.why_not for row in rows} - {None, *_SHORT}
        for reason in sorted(filter(None, reasons)):
            yield Text(reason, style=MUTED)

    return Adaptive(draw)


_SHORT = {"needs more": "", "the weights alone are too large": "weights too large"}


def _figures(row: Fit, *, wide: bool) -> tuple[str | Text, ...]:
    needs = NOTHING if row.required_bytes is None else gib(row.required_bytes)
    budget = gib(row.budget_bytes)
    if row.recipe is None:
        why = Text(_SHORT.get(row.why_not or "", "refused") or "does not fit", style=BAD)
        return (Text(needs, style=BAD), budget, "", why, *(("",) if wide else ()), "", "")
    recipe = row.recipe
    speed = NOTHING if row.tokens_per_s is None else rate(row.tokens_per_s)
    longest = NOTHING if row.longest is None else f"{row.longest:,}"
    how = (
        (recipe.precision, recipe.checkpointing) if wide else (_how(recipe.precision, recipe.checkpointing),)
    )
    batch = f"{recipe.batch_size} × {recipe.accumulation}"
    return Text(needs, style=GOOD), budget, batch, *how, speed, longest


def _how(precision: str, checkpointing: str) -> str:
    return precision if checkpointing == "none" else f"{precision}, recomputed"
