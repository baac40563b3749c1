"""The batches that will really occur: the costliest, and how much of all of them is padding."""

from __future__ import annotations

import random
from bisect import bisect_left, insort
from collections.abc import Iterable, Sequence

from ...planner.data_report import PaddingWaste, WorstBatch
from ...planner.tokens import TokenLengths, round_up
from .batching import LengthGroupedBatches

BATCH_SIZES = (1, 2, 4, 8, 16)
_SEED = 42


def worst_batch(lengths: TokenLengths, batch_size: int) -> WorstBatch:
    """The first batch of an epoch, which is the costliest: it sets the peak of a run."""
    multiple = lengths.bucket()
    batch = next(iter(LengthGroupedBatches(lengths.total, batch_size, seed=_SEED)))
    return WorstBatch(
        batch_size=batch_size,
        rows=len(batch),
        seq_len=round_up(max(lengths.total[i] for i in batch), multiple),
        tokens=sum(lengths.total[i] for i in batch),
        supervised=sum(lengths.supervised[i] for i in batch),
    )


def padding_waste(lengths: TokenLengths, batch_size: int) -> PaddingWaste:
    """The shares of padding of one epoch."""
    total, row = lengths.total, batch_size * lengths.longest
    order = random.Random(_SEED).sample(range(len(total)), len(total))  # noqa: S311 - reproducible, not secret
    shuffled = (order[start : start + batch_size] for start in range(0, len(order), batch_size))
    grouped = LengthGroupedBatches(total, batch_size, seed=_SEED)
    return PaddingWaste(
        batch_size=batch_size,
        shuffled=_share(total, shuffled, 1),
        grouped=_share(total, grouped, lengths.bucket()),
        packed=1 - sum(total) / (packed_rows(total, row) * row),
    )


def packed_rows(lengths: Sequence[int], row: int) -> int:
    """Rows of `row` tokens that hold all sequences uncut, the longest first, each where it fits most tightly."""
    rooms: list[int] = []
    """Free tokens of every row begun, in order."""
    rows = 0
    for length in sorted(lengths, reverse=True):
        place = bisect_left(rooms, length)
        if place < len(rooms):
            room = rooms.pop(place)
        else:
            room, rows = row, rows + 1
        insort(rooms, room - length)
    return rows


def _share(total: Sequence[int], batches: Iterable[Sequence[int]], multiple: int) -> float:
    computed = sum(len(batch) * round_up(max(total[i] for i in batch), multiple) for batch in batches)
    return 1 - sum(total) / computed
