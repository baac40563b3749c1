from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lplan.planner.footprint import Footprint, Instant, Linear, footprint_from_dict
from lplan.planner.polynomial import ZERO, Shape, term
from lplan.planner.stream import FIRST, LAST, REPEATED, Block, Stream, TracedStorage
from lplan.planner.tracing.peaks import peaks

SHAPE = Shape(batch=2, seq=16, supervised=20, chunk=8)


def stream() -> Stream:
    """Three units: each keeps 2 BS through the phase; the first has a passing 500, the last a passing BS2."""
    sizes = [term("BS", 2)] * 3 + [term("1", 500), term("BS2", 1)]
    storages = [
        TracedStorage(size, "activations" if index < 3 else "temporaries") for index, size in enumerate(sizes)
    ]
    return Stream(
        storages,
        [
            Block("step", "forward", FIRST, (1, 4, -4)),
            Block("step", "forward", REPEATED, (2,)),
            Block("step", "forward", LAST, (3, 5, -5)),
        ],
    )  # fmt: skip


def footprint(layers: int = 3) -> Footprint:
    found = peaks(stream(), extends=True)["step"]
    return Footprint(
        architecture="Handmade",
        layers=layers,
        period=1,
        traced_layers=3,
        target_modules=("q_proj",),
        phases=dict.fromkeys(("first step", "steady step", "evaluation"), found),
        work={"micro ops": Linear(term("1", 5), term("1", 2))},
        parameters=Linear(term("1", 30), term("1", 10)),
        trainable_parameters=Linear(term("1", 3), term("1", 1)),
        embedding_bytes=7,
        shared_head=False,
        chunkable=True,
    )


@pytest.mark.parametrize("layers", [3, 4, 22])
def test_the_peak_is_the_largest_moment_and_its_parts_add_up(layers: int) -> None:
    per_layer = 2 * 2 * 16
    at_the_end = {"activations": layers * per_layer, "temporaries": 2 * 16 * 16}
    assert footprint(layers).peak("steady step", SHAPE) == at_the_end


def test_another_moment_peaks_at_another_shape() -> None:
    tiny = Shape(batch=1, seq=1, supervised=1, chunk=1)
    assert footprint().peak("steady step", tiny) == {"activations": 2, "temporaries": 500}


def test_moments_that_never_peak_are_dropped() -> None:
    assert len(peaks(stream(), extends=True)["step"]) == 2


def test_counts_grow_with_the_repeated_units() -> None:
    found = footprint(22)
    assert found.extra_units == 19
    assert found.parameters.at(SHAPE.values(), found.extra_units) == 30 + 19 * 10


shapes = st.builds(
    Shape,
    batch=st.integers(1, 16),
    seq=st.integers(1, 1024),
    supervised=st.just(1),
    chunk=st.just(1),
)


@given(shape=shapes, layers=st.integers(3, 64), more=st.integers(1, 64))
def test_more_of_anything_never_needs_less(shape: Shape, layers: int, more: int) -> None:
    def need(layers: int, shape: Shape) -> int:
        return sum(footprint(layers).peak("first step", shape).values())

    here = need(layers, shape)
    assert need(layers, replace(shape, batch=shape.batch + more)) >= here
    assert need(layers, replace(shape, seq=shape.seq + more)) >= here
    assert need(layers + more, shape) >= here


@pytest.mark.parametrize(
    "found",
    [footprint(), replace(footprint(22), shape=SHAPE), replace(footprint(5), shortest=64, longest=511)],
    ids=["for all", "for one shape", "for some lengths"],
)
def test_json_round_trip(found: Footprint) -> None:
    assert footprint_from_dict(json.loads(json.dumps(found.to_dict()))) == found


@pytest.mark.parametrize(
    ("bounds", "seq", "holds"),
    [
        ((1, None), 1, True),
        ((1, 511), 511, True),
        ((1, 511), 512, False),
        ((512, None), 512, True),
        ((512, None), 511, False),
    ],
)
def test_it_holds_on_its_side_of_a_window(bounds: tuple[int, int | None], seq: int, holds: bool) -> None:
    found = replace(footprint(), shortest=bounds[0], longest=bounds[1])
    assert found.holds(replace(SHAPE, seq=seq)) is holds


def test_a_footprint_of_one_shape_holds_for_that_alone() -> None:
    found = replace(footprint(), shape=SHAPE)
    assert found.holds(SHAPE)
    for other in ({"batch": 3}, {"seq": 17}, {"supervised": 21}, {"chunk": 9}):
        assert not found.holds(replace(SHAPE, **other))


def test_an_instant_without_tensors_is_empty() -> None:
    assert Instant({}).at(SHAPE.values(), 0) == {}
    assert Linear(ZERO).at(SHAPE.values(), 3) == 0
