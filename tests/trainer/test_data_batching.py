"""Batches of similar lengths."""

import statistics

from hypothesis import given
from hypothesis import strategies as st

from lplan.trainer.data.batching import MEGA_BATCH, LengthGroupedBatches

lengths = st.lists(st.integers(1, 500), min_size=1, max_size=700)
batch_sizes = st.integers(1, 9)


def shape(batch, of):
    return len(batch), max(of[i] for i in batch)


@given(lengths=lengths, batch_size=batch_sizes, seed=st.integers(0, 9), epoch=st.integers(0, 9))
def test_an_epoch_has_every_sample_once_in_full_batches_but_one(lengths, batch_size, seed, epoch):
    sampler = LengthGroupedBatches(lengths, batch_size, seed=seed, epoch=epoch)
    batches = list(sampler)
    assert sorted(i for batch in batches for i in batch) == list(range(len(lengths)))
    assert len(batches) == len(sampler)
    assert sum(len(batch) < batch_size for batch in batches) <= 1


@given(lengths=lengths, batch_size=batch_sizes, seed=st.integers(0, 9), epoch=st.integers(0, 9))
def test_the_first_batch_is_the_worst_in_every_epoch(lengths, batch_size, seed, epoch):
    batches = list(LengthGroupedBatches(lengths, batch_size, seed=seed, epoch=epoch))
    most_rows, longest = min(batch_size, len(lengths)), max(lengths)
    assert shape(batches[0], lengths) == (most_rows, longest)
    assert all(rows * tokens <= most_rows * longest for rows, tokens in (shape(b, lengths) for b in batches))


def test_a_remainder_smaller_than_a_batch_never_holds_the_longest_alone():
    lengths = [10] * (2 * MEGA_BATCH) + [99]  # one more than a mega-batch
    for epoch in range(1000):
        batches = LengthGroupedBatches(lengths, 2, seed=0, epoch=epoch)
        assert shape(next(iter(batches)), lengths) == (2, 99)


def test_order_depends_on_seed_and_epoch_alone():
    lengths = [i % 37 + 1 for i in range(300)]
    sampler = LengthGroupedBatches(lengths, 4, seed=1)
    first = list(sampler)
    assert list(sampler) == list(LengthGroupedBatches(lengths, 4, seed=1)) == first
    assert list(LengthGroupedBatches(lengths, 4, seed=2)) != first
    sampler.set_epoch(1)
    assert list(sampler) == list(LengthGroupedBatches(lengths, 4, seed=1, epoch=1)) != first


def test_grouping_pads_far_less_than_chance_and_leaves_batches_in_random_order():
    lengths = [(i * 7919) % 400 + 1 for i in range(2000)]
    grouped = list(LengthGroupedBatches(lengths, 8, seed=3))
    unsorted = [range(i, i + 8) for i in range(0, 2000, 8)]

    def padded(batches):
        return sum(max(lengths[i] for i in b) * len(b) for b in batches) - sum(lengths)

    assert padded(grouped) < padded(unsorted) / 5
    longest = [max(lengths[i] for i in b) for b in grouped]
    assert abs(statistics.correlation(longest[:-1], longest[1:])) < 0.3


def test_no_samples_give_no_batches():
    assert list(LengthGroupedBatches([], 4, seed=0)) == []
    assert len(LengthGroupedBatches([], 4, seed=0)) == 0
