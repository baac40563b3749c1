"""A stack of layers by hand: each keeps 10 bytes from forward to backward and owns a weight of 100."""

from __future__ import annotations

import pytest

from lplan.planner.polynomial import term
from lplan.planner.stream import (
    FIRST,
    LAST,
    OUTSIDE,
    REPEATED,
    Block,
    NotPeriodicError,
    Stream,
    TracedStorage,
    check_extends,
)

WEIGHT, KEPT = 100, 10
UNITS = (FIRST, REPEATED, LAST)


def storage(size: int, component: str = "activations") -> TracedStorage:
    return TracedStorage(term("1", size), component)


def stack(*, freed_by: str = "itself") -> Stream:
    """Storages 0 to 2 are the units' weights, 3 to 5 what their forward keeps, 6 the loss."""
    storages = [storage(WEIGHT, "weights")] * 3 + [storage(KEPT)] * 3 + [storage(1, "logits and loss")]
    weights = [Block("weights", "weights", unit, (unit + 1,)) for unit in UNITS]
    forward = [Block("step", "forward", unit, (unit + 4,)) for unit in UNITS]
    freed = {"itself": (4, 5, 6), "the one before": (5, 6, 4), "the end": ()}[freed_by]
    backward = [Block("step", "backward", unit, tuple(-n for n in freed[unit : unit + 1])) for unit in UNITS]
    end = Block("step", "after", OUTSIDE, (-4, -5, -6, -7) if freed_by == "the end" else (-7,))
    return Stream(
        storages, [*weights, *forward, Block("step", "head", OUTSIDE, (7,)), *reversed(backward), end]
    )


def live(stream: Stream, copies: int) -> list[int]:
    """Live bytes after every event."""
    total, course = 0, []
    for *_, index, born in stream.schedule(copies):
        size = stream.storages[index].size[0]
        total += size if born else -size
        course.append(total)
    return course


def deaths(stream: Stream, copies: int) -> list[tuple[int, int]]:
    """Storages and copies, in order."""
    return [(index, slot % copies) for _, _, slot, index, born in stream.schedule(copies) if not born]


@pytest.mark.parametrize("copies", [1, 2, 7])
def test_every_copy_does_what_the_traced_unit_did(copies: int) -> None:
    layers = copies + 2
    course = live(stack(), copies)
    up = [WEIGHT * n for n in range(1, layers + 1)]
    forward = [up[-1] + KEPT * n for n in range(1, layers + 1)]
    backward = [forward[-1] + 1 - KEPT * n for n in range(1, layers + 1)]
    assert course == [*up, *forward, forward[-1] + 1, *backward, up[-1]]


def test_backward_visits_the_copies_in_reverse() -> None:
    assert deaths(stack(), 3) == [(5, 0), (4, 2), (4, 1), (4, 0), (3, 0), (6, 0)]


def test_what_dies_outside_the_layers_dies_for_every_copy() -> None:
    assert deaths(stack(freed_by="the end"), 3) == [(3, 0), (4, 0), (4, 1), (4, 2), (5, 0), (6, 0)]
    assert live(stack(freed_by="the end"), 3)[-1] == 5 * WEIGHT


def test_what_a_neighbour_frees_is_found_in_the_neighbour() -> None:
    """The first unit frees what the second keeps, the second what the third keeps: so does every copy."""
    stream = stack(freed_by="the one before")
    check_extends(stream)
    assert deaths(stream, 3) == [(3, 0), (5, 0), (4, 2), (4, 1), (4, 0), (6, 0)]


@pytest.mark.parametrize("freed_by", ["itself", "the end"])
def test_a_stack_that_repeats_extends(freed_by: str) -> None:
    check_extends(stack(freed_by=freed_by))


def test_a_repeated_unit_that_leaves_something_behind_does_not_extend() -> None:
    """The last unit frees what the repeated one keeps: copies before the last would keep theirs for good."""
    storages = [storage(KEPT)] * 2
    blocks = [Block("step", "forward", REPEATED, (1,)), Block("step", "forward", LAST, (-1,))]
    with pytest.raises(NotPeriodicError):
        check_extends(Stream(storages, blocks))


def test_a_neighbour_without_a_counterpart_does_not_extend() -> None:
    """The repeated unit frees what the first keeps, but keeps nothing of that size itself."""
    storages = [storage(KEPT), storage(KEPT + 1)]
    blocks = [
        Block("step", "forward", FIRST, (1,)),
        Block("step", "forward", REPEATED, (2, -1)),
        Block("step", "forward", LAST, (-2,)),
    ]
    with pytest.raises(NotPeriodicError):
        check_extends(Stream(storages, blocks))


def test_places_name_the_first_and_the_last_copy_alone() -> None:
    """Between them nothing can peak: what grows from copy to copy grows to the end, what shrinks began highest."""
    births = [place for (*_, index, born), place in stack().happenings(5) if born and index == 4]
    assert [place is None for place in births] == [False, True, True, True, False]
    assert births[0] != births[-1]
