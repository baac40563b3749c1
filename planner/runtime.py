"""What a process needs besides tensors: interpreter, libraries, kernels. Measured, never guessed.

The import baseline is read in every tracing process on this machine; what training adds to it comes from
runtime.toml, fitted by benchmarks/fit_runtime.py from the stored runs of benchmarks/cpu_accuracy.py.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from .recipe import Recipe

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


@dataclass(frozen=True, kw_only=True, slots=True)
class Baseline:
    """Resident memory of a process that has imported the training stack, in bytes."""

    anonymous_bytes: int
    file_bytes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Growth:
    """What a phase adds to the baseline besides tensors."""

    anonymous_bytes: int
    file_bytes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Spread:
    """How far measured peaks lie from expected ones: the wider of a share and a number of bytes."""

    below: float
    above: float
    least_bytes: int

    def around(self, expected_bytes: int) -> tuple[int, int]:
        """(low, high) of an expected peak."""
        low = max(int(expected_bytes * self.below), self.least_bytes)
        high = max(int(expected_bytes * self.above), self.least_bytes)
        return max(0, expected_bytes - low), expected_bytes + high


@cache
def _data() -> Mapping[str, Any]:
    return tomllib.loads(files("lplan.planner").joinpath("runtime.toml").read_text(encoding="utf-8"))


def shipped_baseline() -> Baseline:
    """The import baseline of the machine on which runtime.toml was made."""
    return Baseline(**_data()["import"])


def growth(phase: str, recipe: Recipe, wrapped_layers: int) -> Growth:
    """What `phase` of `recipe` adds to the baseline, on a model of `wrapped_layers` layers."""
    row = _data()["growth"][phase]
    kind = row.get(recipe.precision, row.get("any"))
    return Growth(
        anonymous_bytes=kind["anonymous_bytes"] + wrapped_layers * kind.get("layer_bytes", 0),
        file_bytes=kind["file_bytes"],
    )


def spread() -> Spread:
    """The range around an expected peak on a CPU."""
    return Spread(**_data()["spread"])


def origin() -> Mapping[str, Any]:
    """Where the constants come from: date, machine, versions, rows."""
    origin: Mapping[str, Any] = _data()["origin"]
    return origin
