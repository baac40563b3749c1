"""What fits where, as people see it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lplan.planner.fits import Fit
from lplan.planner.recipe import Recipe
from lplan.profiles.units import GIB
from lplan.report.fits import fits_view

FULL = Recipe(
    device="cuda",
    kernel="efficient",
    allocator="default",
    batch_size=1,
    accumulation=8,
    checkpointing="full",
    precision="fp16-amp",
    method="full",
)


def _at(machine, gib):
    return {"machine": machine, "model": "some/model-1.1b", "budget_bytes": gib * GIB}


ROWS = [
    Fit(recipe=Recipe(), required_bytes=3 * GIB, longest=131_072, **_at("cpu-8gb", 7)),
    Fit(
        recipe=FULL,
        required_bytes=15 * GIB,
        tokens_per_s=12_345.0,
        longest=2048,
        **_at("rtx-4060-ti-16gb", 16),
    ),
    Fit(required_bytes=29 * GIB, why_not="needs more", **_at("t4", 14)),
    Fit(why_not="the weights alone are too large", **_at("rtx-3060", 11)),
    Fit(why_not="Tesla P100 has no bf16: it would be emulated", **_at("p100", 16)),
]


@pytest.mark.parametrize("width", [80, 120])
def test_golden_machines(golden, render, width):
    golden(f"fits_machines_{width}", render(fits_view(ROWS), width=width))


@pytest.mark.parametrize("width", [80, 120])
def test_golden_models(golden, render, width):
    rows = [replace(row, machine="t4", model=f"some/model-{number}") for number, row in enumerate(ROWS)]
    golden(f"fits_models_{width}", render(fits_view(rows), width=width))
