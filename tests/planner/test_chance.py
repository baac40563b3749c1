"""The chance that a run fits, and the range it agrees with."""

from __future__ import annotations

from dataclasses import replace

import made_up
import pytest

from lplan.benchmarks.fit_intervals import by_kind, covered
from lplan.planner.chance import chance_to_fit
from lplan.planner.estimating import Situation, make_estimate
from lplan.planner.recipe import Recipe
from lplan.planner.residuals import COVERED, Residuals, residuals, student_t
from lplan.profiles.named import find_hardware

KNOWN = Residuals(worst=(-0.02, 0.01, 0.005, 0.01), doubt_bytes=0)


@pytest.mark.parametrize("kind", by_kind())
def test_left_out_runs_lie_inside_the_range_of_other_models(kind):
    """Each kind by itself; neither the fits nor the residuals know the run's model."""
    inside = covered(kind)
    assert len(inside) >= 20
    assert sum(inside) / len(inside) >= COVERED


@pytest.mark.parametrize(
    ("value", "freedom", "chance"),
    [
        (12.706, 1, 0.975),
        (4.303, 2, 0.975),
        (3.182, 3, 0.975),
        (2.776, 4, 0.975),
        (2.571, 5, 0.975),
        (1.812, 10, 0.95),
    ],
)
def test_student_t_as_in_printed_tables(value, freedom, chance):
    assert student_t(value, freedom) == pytest.approx(chance, abs=5e-5)
    assert student_t(-value, freedom) == pytest.approx(1 - chance, abs=5e-5)


def test_the_distribution_rises_and_is_even_at_the_expected_peak():
    chances = [KNOWN.below(point) for point in (-0.5, -0.02, -0.01, 0.0, 0.01, 0.02, 0.5)]
    assert chances == sorted(chances)
    assert KNOWN.below(0.0) == pytest.approx(0.5)
    assert chances[0] < 1e-3
    assert chances[-1] > 1 - 1e-3


def test_the_range_covers_what_it_says():
    spread = KNOWN.spread()
    assert KNOWN.below(spread.above) - KNOWN.below(-spread.below) == pytest.approx(COVERED)


def test_few_models_widen_the_range():
    assert (
        replace(KNOWN, worst=(0.01,) * 2).spread().above > replace(KNOWN, worst=(0.01,) * 20).spread().above
    )


def test_a_high_peak_at_the_budget_has_the_chance_of_the_range():
    situation = Situation(
        model=made_up.MODEL, hardware=made_up.HARDWARE, budget=made_up.budget(2**33),
        baseline=made_up.LIBRARIES, versions={},
    )  # fmt: skip
    estimate = make_estimate(Recipe(), made_up.footprint(Recipe()), situation)
    high = estimate.peak.required_bytes
    outside = (1 - COVERED) / 2
    assert chance_to_fit(estimate, made_up.budget(high)) == pytest.approx(1 - outside, abs=1e-3)
    assert chance_to_fit(estimate, made_up.budget(2 * high)) > 0.999
    assert chance_to_fit(estimate, made_up.budget(high // 2)) < 0.001
    assert chance_to_fit(estimate) == chance_to_fit(estimate, estimate.budget)


def test_a_card_without_runs_of_its_own_takes_those_of_others():
    t4, l4 = (find_hardware(name).gpus[0] for name in ("t4", "l4"))
    recipe = Recipe(device="cuda", kernel="flash", allocator="default")
    assert residuals(recipe, l4).doubt_bytes > residuals(recipe, t4).doubt_bytes
