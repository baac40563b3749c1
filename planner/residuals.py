"""How far measured peaks lay from expected ones, by kind of run: intervals.toml, by benchmarks/fit_intervals.py.

Runs of one model err alike, so models are what is counted: each gives its worst residual, and the worst of an unseen
model is taken as one more draw of the same normal distribution around zero. Its range is Student's t prediction
interval, wide where models are few (Gelman & Hill, Data Analysis Using Regression, 2006, on groups as draws).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from math import atan, cos, pi, sin, sqrt

from ..profiles.hardware import Gpu
from .constants import constants
from .recipe import Recipe
from .runtime import Spread

COVERED = 0.95
"""The share of unseen runs that lie between low and high."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Residuals:
    """By what share of the expected peak the worst run of each model came out higher (or lower, if negative).

    `doubt_bytes`: what no run told of the process around the tensors.
    """

    worst: tuple[float, ...]
    doubt_bytes: int

    @property
    def scale(self) -> float:
        """What a unit of Student's t is: the root mean square, and the doubt about it."""
        models = len(self.worst)
        return sqrt(sum(share**2 for share in self.worst) / models * (1 + 1 / models))

    def below(self, share: float) -> float:
        """The chance that a run comes out at most this share above its expected peak."""
        return student_t(share / self.scale, len(self.worst) - 1)

    def stretch(self, expected_bytes: int) -> float:
        """How much wider the distribution is for a peak so small that `doubt_bytes` decides its range."""
        return max(1.0, self.doubt_bytes / max(1, int(expected_bytes * self.spread().above)))

    def spread(self) -> Spread:
        """The range that covers COVERED of unseen models' worst runs."""
        half = self.scale * _quantile((1 + COVERED) / 2, len(self.worst) - 1)
        return Spread(below=half, above=half, least_bytes=self.doubt_bytes)


def student_t(value: float, freedom: int) -> float:
    """Student's t distribution, cumulative, for whole degrees of freedom (Abramowitz & Stegun, 26.7.3 and 26.7.4)."""
    angle = atan(value / sqrt(freedom))
    odd = freedom % 2
    term, total = (cos(angle), 0.0) if odd else (1.0, 0.0)
    for power in range(odd, freedom - 1, 2):
        total += term
        term *= cos(angle) ** 2 * (power + 1) / (power + 2)
    inside = 2 / pi * (angle + sin(angle) * total) if odd else sin(angle) * total
    return (1 + inside) / 2


@cache
def _quantile(chance: float, freedom: int) -> float:
    low, high = 0.0, 1e4
    while high - low > 1e-9:
        middle = (low + high) / 2
        low, high = (middle, high) if student_t(middle, freedom) < chance else (low, middle)
    return high


def residuals(recipe: Recipe, gpu: Gpu | None) -> Residuals:
    """Those of the runs most like this one; `gpu`: the card of a recipe on CUDA."""
    if gpu is None:
        return _named("cpu")
    quantized = "quantized" if recipe.quantization != "none" else "plain"
    known = f"{gpu.name} {quantized}"
    return _named(known if known in constants("intervals") else f"other GPU {quantized}")


@cache
def _named(kind: str) -> Residuals:
    row = constants("intervals")[kind]
    return Residuals(worst=tuple(row["worst"]), doubt_bytes=row["doubt_bytes"])
