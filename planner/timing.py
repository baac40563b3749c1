"""Predicted step time: the traced graph's FLOP and bytes against this machine's measured rates."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache

from .estimating import shape_of
from .footprint import Footprint
from .plan import Schedule, TimeEstimate
from .polynomial import MONOMIALS, ZERO, Shape, function, minus, term
from .rates import Rates
from .recipe import LOSS_CHUNK, Loss, Recipe
from .tokens import TokenLengths, round_up

_ROWS, _HEAD_ROWS, _CHUNK_ROWS = (MONOMIALS.index(name) for name in ("BS", "N", "K"))


def mean_shape_values(recipe: Recipe, lengths: TokenLengths | None) -> list[float]:
    """The mean of each monomial over the micro batches that length-grouping makes of the data."""
    if lengths is None:
        return [float(value) for value in shape_of(recipe).values()]
    pairs = sorted(zip(lengths.total, lengths.supervised, strict=True))
    size = recipe.batch_size
    batches = [pairs[start : start + size] for start in range(0, len(pairs), size)]
    rows = [_values(batch, recipe) for batch in batches]
    return [sum(column) / len(rows) for column in zip(*rows, strict=True)]


def _values(batch: Sequence[tuple[int, int]], recipe: Recipe) -> Sequence[int]:
    supervised = sum(s for _, s in batch)
    rows, seq = len(batch), round_up(max(t for t, _ in batch), recipe.pad_to_multiple_of)
    if recipe.padding == "packed":
        rows, seq = 1, round_up(sum(t for t, _ in batch), recipe.row_multiple)
    return Shape(batch=rows, seq=seq, supervised=supervised, chunk=min(LOSS_CHUNK, supervised)).values()


_Seconds = Callable[[Sequence[float]], float]


class StepClock:
    """Seconds of a graph's steps at given rates; what does not depend on the shape is worked out once.

    `width`: the model's hidden size. `loss`: the path that the graph was traced with.
    """

    def __init__(self, footprint: Footprint, rates: Rates, width: int, loss: Loss) -> None:
        head_rows = _CHUNK_ROWS if loss == "chunked" else _HEAD_ROWS
        self._micro = _part(footprint, "micro", rates, width, head_rows)
        self._optimizer = _part(footprint, "optimizer", rates, width, head_rows)

    def step_s(self, values: Sequence[float], accumulation: int) -> float:
        """Seconds of an optimizer step over `accumulation` micro batches; `values` by `mean_shape_values`."""
        return accumulation * self._micro(values) + self._optimizer(values)


def _part(footprint: Footprint, owner: str, rates: Rates, width: int, head_rows: int) -> _Seconds:
    """The work of a micro batch, or of the optimizer: a sum at constant rates, and products whose rate bends.

    A GPU computes while the next ops are issued: what takes longer counts, as little waits for its results (PyTorch,
    CUDA semantics, asynchronous execution). What grows with the supervised tokens are the output head's products over
    those alone: one product with all their rows, or (`head_rows`) one a chunk, which waits for the weights each time.
    """
    constant, issued = [0.0] * len(ZERO), [0.0] * len(ZERO)
    bent: list[tuple[_Seconds, Callable[[float], float], int]] = []
    for name, work in footprint.work.items():
        whose, kind, *dtype = name.split()
        if whose != owner:
            continue
        amount = work.whole(footprint.extra_units)
        if kind in ("matmul", "attention"):
            rate, head = _rate(rates, kind, dtype[0], width), term("N", amount[_HEAD_ROWS])
            bent += [
                (function(part), rate, rows)
                for part, rows in ((minus(amount, head), _ROWS), (head, head_rows))
                if any(part)
            ]
        else:
            per, sums = _per_unit_s(rates, kind), issued if kind == "ops" and rates.overlaps else constant
            sums[:] = [c + per * a for c, a in zip(sums, amount, strict=True)]
    computing = _computing(function(constant), bent) if bent else function(constant)
    if not any(issued):
        return computing
    issuing = function(issued)
    return lambda values: max(computing(values), issuing(values))


def _computing(
    constant: _Seconds, bent: Sequence[tuple[_Seconds, Callable[[float], float], int]]
) -> _Seconds:
    def at(values: Sequence[float]) -> float:
        seconds = constant(values)
        for amount, rate, rows in bent:
            seconds += amount(values) / rate(values[rows])
        return seconds

    return at


def _rate(rates: Rates, kind: str, dtype: str, width: int) -> Callable[[float], float]:
    measured = rates.matmul if kind == "matmul" else rates.attention
    return cache(lambda rows: measured(dtype, width, rows))


def _per_unit_s(rates: Rates, kind: str) -> float:
    if kind == "traffic":
        return 1 / rates.traffic_bytes_per_s
    if kind == "transfer":
        assert rates.transfer_bytes_per_s is not None
        return 1 / rates.transfer_bytes_per_s
    return 1 / rates.random_elements_per_s if kind == "random" else rates.op_s


def predict_time(
    recipe: Recipe,
    footprint: Footprint,
    rates: Rates,
    lengths: TokenLengths | None,
    schedule: Schedule,
    width: int,
) -> TimeEstimate:
    """Seconds a step, tokens (without padding) a second, and in all. `width`: the model's hidden size."""
    clock = StepClock(footprint, rates.computing(tf32=recipe.tf32), width, recipe.loss)
    step_s = clock.step_s(mean_shape_values(recipe, lengths), recipe.accumulation)
    return time_of(recipe, step_s, lengths, schedule)


def time_of(recipe: Recipe, step_s: float, lengths: TokenLengths | None, schedule: Schedule) -> TimeEstimate:
    """What steps of so many seconds come to."""
    samples = len(lengths.total) if lengths is not None else recipe.effective_batch
    mean_tokens = sum(lengths.total) / samples if lengths is not None else recipe.seq_len
    steps = schedule.max_steps or max(1, round(schedule.epochs * -(-samples // recipe.effective_batch)))
    return TimeEstimate(
        step_s=step_s,
        tokens_per_s=recipe.effective_batch * mean_tokens / step_s,
        total_s=steps * step_s,
        steps=steps,
    )
