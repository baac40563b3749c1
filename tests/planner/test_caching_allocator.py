"""The simulated allocator against the rules of c10/cuda/CUDACachingAllocator.cpp, and against itself for balance."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lplan.planner.caching_allocator import CachingAllocator, OutOfMemoryError, segment_size
from lplan.profiles.units import MIB


@pytest.mark.parametrize(
    ("size", "allocated", "reserved"),
    [
        (1, 512, 2 * MIB),
        (513, 1024, 2 * MIB),
        (MIB, MIB, 2 * MIB),
        (MIB + 1, MIB + 512, 20 * MIB),
        (10 * MIB, 10 * MIB, 10 * MIB),
        (11 * MIB, 12 * MIB, 12 * MIB),
        (21 * MIB, 22 * MIB, 22 * MIB),
    ],
)
def test_what_one_request_takes(size, allocated, reserved):
    """A rest of at most 1 MiB in a large segment stays with its block, and counts as allocated."""
    allocator = CachingAllocator()
    allocator.allocate(size)
    assert (allocator.allocated, allocator.reserved) == (allocated, reserved)


def test_a_freed_block_serves_the_next_request_that_fits_best():
    allocator = CachingAllocator()
    large, small = allocator.allocate(40 * MIB), allocator.allocate(30 * MIB)
    allocator.release(large)
    allocator.release(small)
    allocator.allocate(29 * MIB + 1)
    assert allocator.reserved == 70 * MIB
    assert allocator.allocate(40 * MIB).size == 40 * MIB
    assert allocator.reserved == 70 * MIB


def test_neighbours_merge_again():
    allocator = CachingAllocator()
    blocks = [allocator.allocate(5 * MIB) for _ in range(4)]
    assert allocator.reserved == 20 * MIB
    for block in (blocks[1], blocks[3], blocks[0], blocks[2]):
        allocator.release(block)
    assert allocator.allocate(20 * MIB).size == 20 * MIB
    assert allocator.reserved == 20 * MIB


def test_before_it_gives_up_it_returns_what_is_unused():
    allocator = CachingAllocator(100 * MIB)
    allocator.release(allocator.allocate(60 * MIB))
    allocator.allocate(70 * MIB)
    assert (allocator.reserved, allocator.peak_reserved) == (70 * MIB, 70 * MIB)
    with pytest.raises(OutOfMemoryError):
        allocator.allocate(31 * MIB)


def test_expandable_segments_leave_no_holes_between_growing_requests():
    """The case they were made for: each request a little larger than what was freed."""
    plain, expandable = CachingAllocator(), CachingAllocator(expandable=True)
    for allocator in (plain, expandable):
        for size in range(20, 60, 4):
            allocator.release(allocator.allocate(size * MIB))
    assert plain.reserved == sum(range(20, 60, 4)) * MIB
    assert expandable.reserved == 60 * MIB


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 64 * MIB), st.integers(0, 99)), min_size=1, max_size=60),
    st.booleans(),
)
def test_nothing_is_lost_or_counted_twice(requests, expandable):
    allocator = CachingAllocator(expandable=expandable)
    held = []
    for size, chance in requests:
        held.append(allocator.allocate(size))
        if chance < 50:
            allocator.release(held.pop(chance % len(held)))
        assert allocator.allocated == sum(block.size for block in held)
        assert allocator.allocated <= allocator.reserved
        spans = sorted((b.address, b.address + b.size) for b in held)
        assert all(end <= start for (_, end), (start, _) in pairwise(spans))
    for block in held:
        allocator.release(block)
    assert allocator.allocated == 0
    allocator.empty_cache()
    assert allocator.reserved == 0


def test_segments():
    assert [segment_size(size) for size in (512, MIB, MIB + 512, 10 * MIB - 512, 10 * MIB, 13 * MIB)] == [
        2 * MIB, 2 * MIB, 20 * MIB, 20 * MIB, 10 * MIB, 14 * MIB,
    ]  # fmt: skip
