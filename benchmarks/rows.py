"""A measured run that we did not make, and the files that hold such runs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lplan.planner.recipe import Recipe
from lplan.profiles.hardware import Gpu

DATA = Path(__file__).resolve().parents[1] / "tests" / "data"


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One measured run. `measured` has bytes by what was read: allocated, reserved, process, and phases of them."""

    name: str
    group: str
    """Rows of one source, device and method."""
    model: str
    config: Mapping[str, Any]
    recipe: Recipe
    gpu: Gpu
    measured: Mapping[str, int]
    step_s: float | None = None
    warm_up: bool = False
    clears: bool = False
    """Whether the run empties the allocator's cache after every step."""
    steps: tuple[str, ...] = ("first step", "steady step")
    """Which steps may be the peak: the first alone where its batch is the longest."""
    rules: tuple[str, ...] = ()
    """What its library versions did otherwise than ours (benchmarks.older)."""
    differs: str = ""
    """What its stack is known to do otherwise, or its source does not tell; empty for the stock stack."""
    source: str = field(compare=False, default="")


def lines(name: str) -> Iterator[dict[str, Any]]:
    """The records of one of the files in tests/data."""
    with (DATA / name).open(encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)
