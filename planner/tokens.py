"""Token lengths of a data set: what the planner needs to know of the data, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass

FEW_BUCKETS = 8
"""Distinct padded lengths that cost little to make kernels for."""
_FINEST = 16


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenLengths:
    """Lengths of every training sequence, in file order.

    `total[i]` counts all tokens of sample i, `supervised[i]` those that carry loss (response only).
    Both already truncated to the sequence length that was asked for; `truncated` counts the samples cut.
    """

    total: tuple[int, ...]
    supervised: tuple[int, ...]
    truncated: int = 0

    @property
    def longest(self) -> int:
        """Tokens of the longest sequence."""
        return max(self.total)

    def bucket(self) -> int:
        """The multiple that batches should be padded to: 16, doubled until at most FEW_BUCKETS lengths occur."""
        multiple = _FINEST
        while self.buckets(multiple) > FEW_BUCKETS:
            multiple *= 2
        return multiple if len(set(self.total)) > 1 else 1

    def buckets(self, multiple: int) -> int:
        """Distinct lengths that occur when lengths are rounded up to a multiple."""
        return len({round_up(length, multiple) for length in self.total})

    @property
    def longest_supervised(self) -> int:
        """Most supervised tokens in one sequence."""
        return max(self.supervised)


def round_up(number: int, multiple: int) -> int:
    """The next multiple at or above a number."""
    return -(-number // multiple) * multiple
