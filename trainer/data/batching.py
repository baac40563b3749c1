"""Batches of similar lengths, the longest first."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

MEGA_BATCH = 50
"""Batches that are sorted together: enough to pad little, few enough to stay random."""


class LengthGroupedBatches:
    """A batch sampler: lists of `batch_size` sample indices, every sample once an epoch.

    Samples are shuffled, cut into mega-batches of 50 batches, sorted by length within each and cut into
    batches, which are then shuffled. So little is padded, and yet batches differ from epoch to epoch; what
    is lost against plain shuffling is that samples of very different lengths don't meet in one batch.

    The costliest batch (rows times longest) comes first, in every epoch: the peak of the run falls in its
    first step, and a run that survives that step does not die of a longer batch later. That one batch is
    therefore not in random order. Only one batch an epoch may be short; it never holds the longest sample
    unless there are fewer samples than `batch_size`, and comes last.

    `piece`, a divisor of `batch_size`, cuts each batch further: a run that had to become smaller sees the same
    samples in the same optimizer steps as before.

    The order depends on lengths, batch size, seed and epoch alone. `set_epoch` gives the next epoch's.
    """

    def __init__(
        self, lengths: Sequence[int], batch_size: int, *, seed: int, epoch: int = 0, piece: int | None = None
    ) -> None:
        self._lengths = lengths
        self._batch_size = batch_size
        self._seed = seed
        self._epoch = epoch
        self._piece = piece or batch_size

    def set_epoch(self, epoch: int) -> None:
        """Shuffle for this epoch from the next iteration on."""
        self._epoch = epoch

    def __len__(self) -> int:
        full, rest = divmod(len(self._lengths), self._batch_size)
        return full * (self._batch_size // self._piece) - (-rest // self._piece)

    def __iter__(self) -> Iterator[list[int]]:
        rng = random.Random(f"{self._seed}/{self._epoch}")  # noqa: S311 - reproducible, not secret
        order = rng.sample(range(len(self._lengths)), len(self._lengths))
        batches = [batch for mega in self._mega_batches(order) for batch in self._cut(mega)]
        rng.shuffle(batches)
        if batches:
            costliest = max(range(len(batches)), key=lambda i: self._cost(batches[i]))
            batches.insert(0, batches.pop(costliest))
        batches.sort(key=lambda batch: len(batch) < self._batch_size)
        for batch in batches:
            for start in range(0, len(batch), self._piece):
                yield batch[start : start + self._piece]

    def _mega_batches(self, order: Sequence[int]) -> Iterator[Sequence[int]]:
        """Runs of 50 batches; a remainder below one batch joins the last, so that it isn't left among itself."""
        size = MEGA_BATCH * self._batch_size
        starts = range(0, max(1, len(order) - self._batch_size + 1), size)
        for start in starts:
            yield order[start : None if start == starts[-1] else start + size]

    def _cut(self, mega: Sequence[int]) -> Iterator[list[int]]:
        longest_first = sorted(mega, key=lambda i: -self._lengths[i])
        for start in range(0, len(mega), self._batch_size):
            yield longest_first[start : start + self._batch_size]

    def _cost(self, batch: Sequence[int]) -> tuple[int, int]:
        longest = max(self._lengths[i] for i in batch)
        return len(batch) * longest, longest
