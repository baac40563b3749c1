"""Token lengths of a data set: what the planner needs to know of the data, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass


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

    @property
    def longest_supervised(self) -> int:
        """Most supervised tokens in one sequence."""
        return max(self.supervised)
