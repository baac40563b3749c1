"""Memory against time, and other budgets, as people see them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lplan.planner.frontier import Option
from lplan.profiles.units import GIB
from lplan.report.frontier import frontier_view, what_if_view
from lplan.report.plan import plan_view

from .samples import PLAN


def option(required_gib, step_s, budget_gib=8, **knobs):
    recipe = replace(PLAN.recipe, **knobs)
    return Option(
        recipe=recipe,
        budget_bytes=int(budget_gib * GIB),
        required_bytes=int(required_gib * GIB),
        fits=required_gib <= budget_gib,
        step_s=step_s,
        tokens_per_s=1000 / step_s,
        total_s=100 * step_s,
    )


POINTS = [
    option(9.5, 2.0, batch_size=8, accumulation=1, checkpointing="none"),
    option(5.25, 2.5, batch_size=4, accumulation=2, checkpointing="every-2", loss="supervised"),
    option(2.0, 11.0, batch_size=1, accumulation=8, checkpointing="full", loss="chunked"),
]
OTHERS = [
    (2 * GIB, option(9.5, 2.0, 10)),
    (-7 * GIB, option(2.0, 11.0, 1)),
    (GIB, replace(option(8.5, 1.0, 9), tokens_per_s=PLAN.time.tokens_per_s)),
]


@pytest.mark.parametrize("width", [80, 120])
def test_golden_frontier(golden, render, width):
    golden(f"frontier_{width}", render(frontier_view(POINTS), width=width))


@pytest.mark.parametrize("width", [80, 120])
def test_golden_what_if(golden, render, width):
    golden(f"what_if_{width}", render(what_if_view(PLAN, OTHERS), width=width))


def test_a_price_stands_beside_the_time(render):
    hours = PLAN.time.total_s / 3600
    assert f"; costs {2.5 * hours:,.2f}" in render(plan_view(PLAN, 2.5), width=120)
    assert "costs" not in render(plan_view(PLAN), width=120)
