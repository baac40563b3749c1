from __future__ import annotations

from math import prod

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lplan.planner.polynomial import (
    MONOMIALS,
    ZERO,
    Shape,
    evaluate,
    function,
    largest,
    minus,
    plus,
    symbolize,
    term,
)

TRACED = Shape(batch=109, seq=509, supervised=303, chunk=101)
B, S, N, K = TRACED.batch, TRACED.seq, TRACED.supervised, TRACED.chunk


def polynomial(**coefficients: int) -> tuple[int, ...]:
    return tuple(coefficients.get(name, 0) for name in ("one", *MONOMIALS[1:]))


def test_values_are_the_monomials_of_the_shape() -> None:
    values = dict(zip(MONOMIALS, Shape(batch=3, seq=10, supervised=7, chunk=5).values(), strict=True))
    assert values == {"1": 1, "S": 10, "S2": 100, "B": 3, "BS": 30, "BS2": 300, "N": 7, "K": 5}


@pytest.mark.parametrize(
    ("dimensions", "itemsize", "expected"),
    [
        ((64, 160), 2, polynomial(one=2 * 64 * 160)),
        ((), 4, polynomial(one=4)),
        ((0, 64), 4, ZERO),
        ((B, S, 64), 2, polynomial(BS=128)),
        ((B * S, 300), 2, polynomial(BS=600)),
        ((B, 8, S, S), 4, polynomial(BS2=32)),
        ((B * 8, S, S), 4, polynomial(BS2=32)),
        ((1, 1, S, S), 1, polynomial(S2=1)),
        ((S, 16), 4, polynomial(S=64)),
        ((B,), 8, polynomial(B=8)),
        ((N, 300), 4, polynomial(N=1200)),
        ((K, 300), 4, polynomial(K=1200)),
        ((B, S + 1), 8, polynomial(BS=8, B=8)),
        ((B, S - 1, 300), 4, polynomial(BS=1200, B=-1200)),
        ((B * (S - 1), 300), 4, polynomial(BS=1200, B=-1200)),
        ((2 * S - 1, 16), 4, polynomial(S=128, one=-64)),
        ((B, 2 * S + 1), 1, polynomial(BS=2, B=1)),
    ],
)
def test_dimensions_say_where_they_come_from(
    dimensions: tuple[int, ...], itemsize: int, expected: tuple[int, ...]
) -> None:
    assert symbolize(itemsize * prod(dimensions), dimensions, itemsize, TRACED) == expected


def test_a_view_of_a_larger_storage_counts_its_bytes() -> None:
    assert symbolize(8 * B * S, (S,), 4, TRACED) == polynomial(BS=8)


@pytest.mark.parametrize("dimensions", [(B, B), (N, N), (B, N), (S, S, S)])
def test_what_no_monomial_describes_is_refused(dimensions: tuple[int, ...]) -> None:
    assert symbolize(prod(dimensions), dimensions, 1, TRACED) is None


widths = st.sampled_from([1, 2, 3, 8, 64, 300, 11008])
factors = st.sampled_from(["", "S", "SS", "B", "BS", "BSS", "N", "K"])
shapes = st.builds(
    Shape,
    batch=st.integers(1, 64),
    seq=st.integers(1, 4096),
    supervised=st.integers(1, 10**5),
    chunk=st.integers(1, 128),
)


@given(letters=factors, width=widths, itemsize=st.sampled_from([1, 2, 4, 8]), elsewhere=shapes)
def test_what_was_read_at_one_shape_holds_at_every_other(
    letters: str, width: int, itemsize: int, elsewhere: Shape
) -> None:
    def dimensions(shape: Shape) -> tuple[int, ...]:
        sizes = {"B": shape.batch, "S": shape.seq, "N": shape.supervised, "K": shape.chunk}
        return (*(sizes[letter] for letter in letters), width)

    found = symbolize(itemsize * prod(dimensions(TRACED)), dimensions(TRACED), itemsize, TRACED)
    assert found is not None
    assert evaluate(found, elsewhere.values()) == itemsize * prod(dimensions(elsewhere))


coefficients = st.tuples(*[st.integers(-1000, 1000)] * len(MONOMIALS))


@given(left=coefficients, right=coefficients, shape=shapes)
def test_sums_and_differences_are_those_of_the_values(
    left: tuple[int, ...], right: tuple[int, ...], shape: Shape
) -> None:
    values = shape.values()
    assert evaluate(plus(left, right), values) == evaluate(left, values) + evaluate(right, values)
    assert minus(plus(left, right), right) == left


def test_a_term_is_its_coefficient_times_its_monomial() -> None:
    shape = Shape(batch=3, seq=10, supervised=7, chunk=5)
    assert evaluate(term("BS2", 4), shape.values()) == 4 * 3 * 10 * 10


SPARSE = st.lists(st.sampled_from([0, 0, 0, 1, 5, 10**9]), min_size=8, max_size=8)


@given(polynomials=st.lists(SPARSE, min_size=1, max_size=5), shape=st.tuples(*[st.integers(1, 5000)] * 4))
def test_functions_are_the_polynomials(polynomials: list[list[int]], shape: tuple[int, ...]) -> None:
    values = Shape(batch=shape[0], seq=shape[1], supervised=shape[2], chunk=shape[3]).values()
    each = [evaluate(one, values) for one in polynomials]
    assert [function(one)(values) for one in polynomials] == each
    assert largest(polynomials)(values) == max(each)
