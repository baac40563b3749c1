"""Byte counts as exact functions of a batch's shape.

Shape legend: B micro batch, S sequence length, N supervised tokens of the micro batch, K tokens of a loss chunk.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from math import prod

MONOMIALS = ("1", "S", "S2", "B", "BS", "BS2", "N", "K")
Coefficients = tuple[int, ...]
"""One integer for each of MONOMIALS."""
ZERO: Coefficients = (0,) * len(MONOMIALS)


@dataclass(frozen=True, kw_only=True, slots=True)
class Shape:
    """A micro batch: `batch` sequences of `seq` tokens, `supervised` of them (in all) with loss."""

    batch: int
    seq: int
    supervised: int
    chunk: int

    def values(self) -> Coefficients:
        """The value of each of MONOMIALS."""
        b, s = self.batch, self.seq
        return (1, s, s * s, b, b * s, b * s * s, self.supervised, self.chunk)


def term(monomial: str, coefficient: int) -> Coefficients:
    """The polynomial `coefficient` x `monomial`."""
    index = MONOMIALS.index(monomial)
    return (*ZERO[:index], coefficient, *ZERO[index + 1 :])


def evaluate(coefficients: Sequence[int], values: Sequence[int]) -> int:
    """The polynomial's value in bytes."""
    return sum(c * v for c, v in zip(coefficients, values, strict=True))


def function(coefficients: Sequence[float]) -> Callable[[Sequence[float]], float]:
    """The polynomial as a function of MONOMIALS' values, for loops that evaluate it often."""
    terms = [(place, coefficient) for place, coefficient in enumerate(coefficients) if coefficient]
    if not any(place for place, _ in terms):
        return lambda _: coefficients[0]
    if len(terms) == 1:
        ((place, coefficient),) = terms
        return lambda values: coefficient * values[place]
    c0, c1, c2, c3, c4, c5, c6, c7 = coefficients

    def at(values: Sequence[float]) -> float:
        _, s, s2, b, bs, bs2, n, k = values
        return c0 + c1 * s + c2 * s2 + c3 * b + c4 * bs + c5 * bs2 + c6 * n + c7 * k

    return at


def largest(polynomials: Sequence[Sequence[float]]) -> Callable[[Sequence[float]], float]:
    """The highest value of several polynomials, as a function of MONOMIALS' values.

    Few traces have a term in S2 or B alone; without those the whole sum is one expression in one loop.
    """
    if any(c2 or c3 for _, _, c2, c3, *_ in polynomials):
        functions = [function(one) for one in polynomials]
        return lambda values: max([at(values) for at in functions])
    terms = [(c0, c1, c4, c5, c6, c7) for c0, c1, _, _, c4, c5, c6, c7 in polynomials]

    def at(values: Sequence[float]) -> float:
        _, s, _, _, bs, bs2, n, k = values
        return max([c0 + c1 * s + c4 * bs + c5 * bs2 + c6 * n + c7 * k for c0, c1, c4, c5, c6, c7 in terms])

    return at


def plus(left: Sequence[int], right: Sequence[int]) -> Coefficients:
    """The sum of two polynomials."""
    return tuple(a + b for a, b in zip(left, right, strict=True))


def minus(left: Sequence[int], right: Sequence[int]) -> Coefficients:
    """The difference of two polynomials."""
    return tuple(a - b for a, b in zip(left, right, strict=True))


@cache
def symbolize(
    size_bytes: int, dimensions: tuple[int, ...], itemsize: int, shape: Shape
) -> Coefficients | None:
    """The polynomial behind a storage of a tensor with these dimensions, traced at `shape`; None if it has none.

    `shape` must be made of primes that divide none of the model's own widths: then each factor of a
    dimension says where it comes from, and a dimension next to a multiple of S is that multiple plus or minus one.
    """
    if itemsize * prod(dimensions) != size_bytes:
        dimensions, itemsize = (size_bytes,), 1
    total: dict[str, int] = {"": itemsize}
    for dimension in dimensions:
        total = _times(total, _dimension(dimension, shape))
    if any((powers or "1") not in _BY_POWERS for powers in total):
        return None
    coefficients = list(ZERO)
    for powers, coefficient in total.items():
        coefficients[_BY_POWERS[powers or "1"]] += coefficient
    return tuple(coefficients)


_BY_POWERS = {"1": 0, "S": 1, "SS": 2, "B": 3, "BS": 4, "BSS": 5, "N": 6, "K": 7}


def _dimension(size: int, shape: Shape) -> dict[str, int]:
    """A dimension as a sum of products, by the letters of each: 2 * B * (S + 1) is {"BS": 2, "B": 2}."""
    for letter, count in (("N", shape.supervised), ("K", shape.chunk)):
        if size == count:
            return {letter: 1}
    for letter, prime in (("B", shape.batch), ("S", shape.seq)):
        if size and size % prime == 0:
            return _times({letter: 1}, _dimension(size // prime, shape))
    for off in (1, -1):
        if size > 1 and (size - off) % shape.seq == 0:
            return {"S": (size - off) // shape.seq, "": off}
    return {"": size}


def _times(left: Mapping[str, int], right: Mapping[str, int]) -> dict[str, int]:
    product: dict[str, int] = {}
    for a, x in left.items():
        for b, y in right.items():
            powers = "".join(sorted(a + b))
            product[powers] = product.get(powers, 0) + x * y
    return product
