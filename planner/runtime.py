"""What a process needs besides tensors: interpreter, libraries, kernels. Measured, never guessed.

The import baseline is read in every tracing process on this machine; what training adds to it comes from
runtime.toml, fitted by benchmarks/fit_runtime.py from the stored runs of benchmarks/cpu_accuracy.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .constants import constants
from .recipe import Recipe

_MOST_AROUND = 1.76
"""The imports' files were seen resident with 84 to 148 MiB on one machine. More than that is other packages:
where `datasets` is installed, transformers' Trainer imports pyarrow and pandas, which no step touches."""
KERNEL_PHASES = ("steady step", "evaluation", "save")
"""Phases in which every length has occurred. The first step sees the longest alone."""


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
        return max(0, expected_bytes - low), self.high(expected_bytes)

    def high(self, expected_bytes: int) -> int:
        """The upper end."""
        return expected_bytes + max(int(expected_bytes * self.above), self.least_bytes)

    def within(self, budget_bytes: int) -> int:
        """The highest expected peak whose range ends within a budget."""
        return min(int(budget_bytes / (1 + self.above)), budget_bytes - self.least_bytes)


def shipped_baseline() -> Baseline:
    """The import baseline of the machine on which runtime.toml was made."""
    return Baseline(**constants("runtime")["import"])


def growth(phase: str, recipe: Recipe, layers: int, libraries: Baseline) -> Growth:
    """What `phase` of `recipe` adds to the baseline `libraries`, on a model of `layers` layers.

    How many pages of a file the kernel maps around one that is touched depends on how the file came to be in its
    cache, so file-backed growth is taken relative to the file-backed part of the imports.

    Python objects grow with layers, and bf16 kernels are made anew for every distinct length of a batch.
    """
    row = constants("runtime")["growth"][phase]
    fp32 = recipe.precision == "fp32"
    checkpointing = recipe.checkpoint_period > 0
    kernels = 0 if fp32 or phase not in KERNEL_PHASES else constants("runtime")["kernels"]["length_bytes"]
    return Growth(
        anonymous_bytes=row["anonymous_bytes"]
        + fp32 * row["anonymous_fp32_bytes"]
        + layers * row["anonymous_layer_bytes"]
        + (recipe.length_buckets - 1) * kernels,
        file_bytes=round(
            min(_MOST_AROUND, libraries.file_bytes / shipped_baseline().file_bytes)
            * (
                row["file_bytes"]
                + fp32 * row["file_fp32_bytes"]
                + checkpointing * row["file_checkpointing_bytes"]
            )
        ),
    )


def origin() -> Mapping[str, Any]:
    """Where the constants come from: date, machine, versions, rows."""
    origin: Mapping[str, Any] = constants("runtime")["origin"]
    return origin
