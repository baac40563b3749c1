"""What glibc's default allocator holds: which tensors its heap is made from, and what follows for a run."""

from __future__ import annotations

from dataclasses import replace

import made_up
import pytest

from lplan.planner.estimating import Situation, make_estimate, shape_of
from lplan.planner.footprint import Footprint
from lplan.planner.heap import LARGEST_BLOCK_BYTES, HeapUse, fragmentation, heap_use, slack
from lplan.planner.polynomial import term
from lplan.planner.recipe import Recipe
from lplan.planner.stream import OUTSIDE, Block, Stream, TracedStorage
from lplan.profiles.units import MIB

DEFAULT = Recipe(allocator="default", accumulation=1)
SHAPE = shape_of(DEFAULT)
WEIGHT, ADAPTER, FIRST, SECOND, LARGE, STATE, LAST = range(1, 8)
SIZES = {
    WEIGHT: (500 * MIB, "weights"),
    ADAPTER: (3 * MIB, "adapters"),
    FIRST: (20 * MIB, "activations"),
    SECOND: (LARGEST_BLOCK_BYTES, "activations"),
    LARGE: (LARGEST_BLOCK_BYTES + 1, "logits and loss"),
    STATE: (6 * MIB, "optimizer"),
    LAST: (5 * MIB, "activations"),
}
EVENTS = {
    "load": (WEIGHT,),
    "wrap": (ADAPTER,),
    "first step": (FIRST, SECOND, -SECOND, LARGE, -LARGE, -FIRST, STATE),
    "steady step": (FIRST, -FIRST, LARGE, -LARGE),
    "evaluation": (LAST, -LAST),
}


def traced() -> Footprint:
    """A model of one weight, whose step holds 20 and 32 MiB in the heap and a little more than 32 beside it."""
    storages = [TracedStorage(term("1", size), component) for size, component in SIZES.values()]
    blocks = [Block(phase, "all", OUTSIDE, events) for phase, events in EVENTS.items()]
    return replace(made_up.footprint(DEFAULT), stream=Stream(storages, blocks), layers=1, traced_layers=1)


def test_blocks_beyond_the_largest_threshold_lie_beside_the_heap_and_so_does_what_is_never_freed() -> None:
    use = heap_use(traced(), SHAPE)
    assert use["first step"] == HeapUse(52 * MIB, 3 * MIB + LARGEST_BLOCK_BYTES + 1, 2, LARGEST_BLOCK_BYTES)


def test_the_heap_never_forgets_what_lived_in_it() -> None:
    use = heap_use(traced(), SHAPE)
    assert use["steady step"] == HeapUse(52 * MIB, 9 * MIB + LARGEST_BLOCK_BYTES + 1, 1, 20 * MIB)
    assert use["evaluation"] == HeapUse(52 * MIB, 9 * MIB, 1, 5 * MIB)


def test_a_footprint_without_its_order_counts_all_that_comes_and_goes() -> None:
    footprint = replace(traced(), stream=None)
    live = footprint.peak("steady step", SHAPE)
    stays = live["adapters"] + live["optimizer"]
    found = heap_use(footprint, SHAPE)["steady step"]
    assert (found.heap_bytes, found.beside_bytes) == (sum(live.values()) - live["weights"] - stays, stays)


def test_a_step_holds_the_heap_and_what_lies_beside_it() -> None:
    use, live = (
        {"steady step": HeapUse(100 * MIB, 40 * MIB, 256)},
        {"weights": 500 * MIB, "activations": 120 * MIB},
    )
    found = slack(use, "steady step", live)
    assert (
        found.expected_bytes == 40 * MIB + int((1 + 8 * fragmentation().steady_step) * 100 * MIB) - 120 * MIB
    )
    assert 0 < found.less_bytes == found.more_bytes


def test_more_tensors_keep_it_in_more_pieces() -> None:
    few, many = HeapUse(100 * MIB, 0, 256), HeapUse(100 * MIB, 0, 512)
    live = {"activations": 100 * MIB}
    less, more = (slack({"steady step": use}, "steady step", live).expected_bytes for use in (few, many))
    assert more - less == pytest.approx(fragmentation().steady_step * 100 * MIB, abs=1)
    assert more > less


def test_chunks_of_logits_need_room_of_their_own() -> None:
    use, live = {"steady step": HeapUse(100 * MIB, 0, 256, 25 * MIB)}, {"activations": 100 * MIB}
    whole, chunked = (slack(use, "steady step", live, chunked=on).expected_bytes for on in (False, True))
    assert chunked - whole == pytest.approx(fragmentation().chunks * 25 * MIB, abs=1)
    assert chunked > whole


@pytest.mark.parametrize("phase", ["evaluation", "save"])
def test_after_the_steps_all_of_the_heap_may_be_left_or_nothing(phase: str) -> None:
    use = {"steady step": HeapUse(100 * MIB, 0, 256), "evaluation": HeapUse(100 * MIB, 0, 256)}
    live = {"weights": 500 * MIB, "adapters": 3 * MIB}
    found, step = (slack(use, name, live) for name in (phase, "steady step"))
    assert found.less_bytes == found.expected_bytes
    beside = 3 * MIB if phase == "save" else 0
    most = found.expected_bytes + found.more_bytes
    assert step.expected_bytes + beside < most < step.expected_bytes + step.more_bytes + beside


def test_an_evaluation_that_needs_more_than_was_left_needs_no_more_than_that() -> None:
    use = {"steady step": HeapUse(10 * MIB, 0, 256), "evaluation": HeapUse(400 * MIB, 0, 256)}
    assert slack(use, "evaluation", {"activations": 400 * MIB}).expected_bytes == 0


def test_only_the_default_allocator_has_slack_and_only_from_the_first_step_on() -> None:
    situation = Situation(
        model=made_up.MODEL, hardware=made_up.HARDWARE, budget=made_up.budget(2**33),
        baseline=made_up.LIBRARIES, versions={},
    )  # fmt: skip
    recipes = DEFAULT, replace(DEFAULT, allocator="pinned")
    default, pinned = (make_estimate(r, made_up.footprint(r), situation).phases for r in recipes)
    for one, other in zip(default, pinned, strict=True):
        more = one.components.get("allocator slack", 0)
        assert one.peak.expected_bytes - other.peak.expected_bytes == more
        assert (more > 0) == (one.name in ("first step", "steady step", "evaluation", "save"))
        assert one.peak.low_bytes <= one.peak.expected_bytes <= one.peak.high_bytes
        assert "allocator slack" not in other.components
