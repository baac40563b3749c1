"""Predicted step time: the traced graph's FLOP and bytes against this machine's measured rates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .estimating import shape_of
from .footprint import Footprint
from .plan import Schedule, TimeEstimate
from .polynomial import MONOMIALS, Shape
from .rates import Rates
from .recipe import LOSS_CHUNK, Recipe
from .tokens import TokenLengths, round_up


def mean_shape_values(recipe: Recipe, lengths: TokenLengths | None) -> list[float]:
    """The mean of each monomial over the micro batches that length-grouping makes of the data."""
    if lengths is None:
        return [float(value) for value in shape_of(recipe).values()]
    pairs = sorted(zip(lengths.total, lengths.supervised, strict=True))
    size = recipe.batch_size
    batches = [pairs[start : start + size] for start in range(0, len(pairs), size)]
    rows = [_values(batch, recipe.pad_to_multiple_of) for batch in batches]
    return [sum(column) / len(rows) for column in zip(*rows, strict=True)]


def _values(batch: Sequence[tuple[int, int]], multiple: int) -> Sequence[int]:
    supervised = sum(s for _, s in batch)
    longest = round_up(max(t for t, _ in batch), multiple)
    return Shape(
        batch=len(batch), seq=longest, supervised=supervised, chunk=min(LOSS_CHUNK, supervised)
    ).values()


def predict_time(
    recipe: Recipe,
    footprint: Footprint,
    rates: Rates,
    lengths: TokenLengths | None,
    schedule: Schedule,
    width: int,
) -> TimeEstimate:
    """Seconds a step, tokens (without padding) a second, and in all. `width`: the model's hidden size."""
    values = mean_shape_values(recipe, lengths)
    work = {
        name: _at(part.base, part.per_unit, values, footprint.extra_units)
        for name, part in footprint.work.items()
    }
    rows = values[MONOMIALS.index("BS")]
    micro_s, optimizer_s = (_seconds(work, group, rates, width, rows) for group in ("micro", "optimizer"))
    step_s = recipe.accumulation * micro_s + optimizer_s
    samples = len(lengths.total) if lengths is not None else recipe.effective_batch
    mean_tokens = sum(lengths.total) / samples if lengths is not None else recipe.seq_len
    steps = schedule.max_steps or max(1, round(schedule.epochs * -(-samples // recipe.effective_batch)))
    return TimeEstimate(
        step_s=step_s,
        tokens_per_s=recipe.effective_batch * mean_tokens / step_s,
        total_s=steps * step_s,
        steps=steps,
    )


def _at(base: Sequence[int], per_unit: Sequence[int], values: Sequence[float], extra: int) -> float:
    return sum((b + extra * u) * v for b, u, v in zip(base, per_unit, values, strict=True))


def _seconds(work: Mapping[str, float], group: str, rates: Rates, width: int, rows: float) -> float:
    seconds = 0.0
    for name, amount in work.items():
        owner, kind, *dtype = name.split()
        if owner != group:
            continue
        if kind == "matmul":
            seconds += amount / rates.matmul(dtype[0], width, rows)
        elif kind == "attention":
            seconds += amount / rates.attention(dtype[0], width, rows)
        elif kind == "traffic":
            seconds += amount / rates.traffic_bytes_per_s
        elif kind == "random":
            seconds += amount / rates.random_elements_per_s
        else:
            seconds += amount * rates.op_s
    return seconds
