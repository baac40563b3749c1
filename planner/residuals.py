"""How far measured peaks lay from expected ones, by kind of run: intervals.toml, by benchmarks/fit_intervals.py.

Between the residuals the distribution is linear in rank; beyond the outermost it falls off exponentially. The share
that lies beyond counts models and not runs, as runs of one model err alike: few models, wide tails.
"""

from __future__ import annotations

import sys
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from math import exp, log, sqrt
from typing import Any

from ..profiles.hardware import Gpu
from .recipe import Recipe
from .runtime import Spread

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

COVERED = 0.95
"""The share of unseen runs that lie between low and high."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Residuals:
    """Shares of the expected peak by which runs came out higher, ascending.

    `models`: from how many models they are. `doubt_bytes`: what no run told of the process around the tensors.
    """

    shares: tuple[float, ...]
    models: int
    doubt_bytes: int

    @property
    def tail(self) -> float:
        """The chance of a run beyond the outermost residual, to either side."""
        return 1 / (self.models + 1) / 2

    @property
    def scale(self) -> float:
        """How fast the tails fall off: the root mean square."""
        return sqrt(sum(share**2 for share in self.shares) / len(self.shares))

    def below(self, share: float) -> float:
        """The chance that a run comes out at most this share above its expected peak."""
        first, last = self.shares[0], self.shares[-1]
        if share < first:
            return self.tail * exp((share - first) / self.scale)
        if share >= last:
            return 1 - self.tail * exp((last - share) / self.scale)
        index = bisect_right(self.shares, share) - 1
        one, other = self.shares[index], self.shares[index + 1]
        rank = index + (share - one) / (other - one)
        return self.tail + (1 - 2 * self.tail) * rank / (len(self.shares) - 1)

    def stretch(self, expected_bytes: int) -> float:
        """How much wider the distribution is for a peak so small that `doubt_bytes` decides its range."""
        return max(1.0, self.doubt_bytes / max(1, int(expected_bytes * self.spread().above)))

    def spread(self) -> Spread:
        """The range that covers COVERED of unseen runs."""
        outside = (1 - COVERED) / 2
        more = self.scale * max(0.0, log(self.tail / outside))
        return Spread(
            below=max(0.0, more - self.shares[0]),
            above=max(0.0, more + self.shares[-1]),
            least_bytes=self.doubt_bytes,
        )


def residuals(recipe: Recipe, gpu: Gpu | None) -> Residuals:
    """Those of the runs most like this one; `gpu`: the card of a recipe on CUDA."""
    if gpu is None:
        return _named("cpu")
    quantized = "quantized" if recipe.quantization != "none" else "plain"
    known = f"{gpu.name} {quantized}"
    return _named(known if known in _data() else f"other GPU {quantized}")


@cache
def _named(kind: str) -> Residuals:
    row = _data()[kind]
    return Residuals(
        shares=tuple(sorted(row["shares"])), models=row["models"], doubt_bytes=row["doubt_bytes"]
    )


@cache
def _data() -> Mapping[str, Any]:
    return tomllib.loads(files("lplan.planner").joinpath("intervals.toml").read_text(encoding="utf-8"))
