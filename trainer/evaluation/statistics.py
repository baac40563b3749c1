"""Intervals and tests for what was counted on the same examples before and after. No library is needed for them."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

_Z = 1.959963984540054
"""The normal distribution's 97.5 % quantile: intervals are of 95 %."""
_RESAMPLES = 2000


def wilson(right: int, of: int) -> tuple[float, float]:
    """The 95 % interval of a proportion (Wilson 1927), in [0, 1]; (0, 1) of nothing."""
    if of == 0:
        return 0.0, 1.0
    share, z2 = right / of, _Z * _Z
    centre = share + z2 / (2 * of)
    half = _Z * math.sqrt(share * (1 - share) / of + z2 / (4 * of * of))
    return max(0.0, (centre - half) / (1 + z2 / of)), min(1.0, (centre + half) / (1 + z2 / of))


def paired_difference(
    before: Sequence[float], after: Sequence[float], *, seed: int = 0
) -> tuple[float, float]:
    """The 95 % interval of the mean of after - before over the same examples, by the percentile bootstrap.

    Raises ValueError for none, or for sequences of different lengths.
    """
    differences = [b - a for a, b in zip(before, after, strict=True)]
    if not differences:
        raise ValueError("no examples to compare")
    generator = random.Random(seed)  # noqa: S311 - reproducible, not secret
    count = len(differences)
    means = sorted(sum(generator.choices(differences, k=count)) / count for _ in range(_RESAMPLES))
    return means[int(0.025 * _RESAMPLES)], means[int(0.975 * _RESAMPLES) - 1]


def mcnemar(before: Sequence[bool], after: Sequence[bool]) -> float:
    """The exact two-sided p-value that right answers changed as often in one direction as in the other.

    McNemar 1947, by the binomial distribution of the examples that changed.
    """
    changes = [(a, b) for a, b in zip(before, after, strict=True) if a != b]
    gained = sum(b for _, b in changes)
    fewer = min(gained, len(changes) - gained)
    ways: int = sum(math.comb(len(changes), k) for k in range(fewer + 1))
    tail: float = ways / 2 ** len(changes)
    return min(1.0, 2 * tail)
