"""Plans corrected by what their runs needed, on footprints that are made up."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import made_up
import pytest

from lplan.planner.corrected import Failure, rehearsed_plan, shifted, smaller_plan
from lplan.planner.estimate import with_rehearsal
from lplan.planner.plan import Plan
from lplan.planner.planning import make_plan
from lplan.planner.recipe import Recipe
from lplan.planner.tokens import TokenLengths
from lplan.profiles.units import GIB, MIB

LENGTHS = TokenLengths(total=(256,) * 40, supervised=(256,) * 40)
LARGE = Recipe(batch_size=8, accumulation=1, seq_len=256, supervised_len=256, padding="none")
KNOBS = frozenset({"batch_size", "accumulation", "checkpointing", "loss"})


@pytest.fixture(autouse=True)
def _made_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    made_up.install(monkeypatch, tmp_path)


def plan_of(recipe: Recipe, budget_bytes: int = 4 * GIB) -> Plan:
    """The plan of exactly this recipe."""
    return make_plan(
        made_up.task(budget_bytes, recipe=recipe, given=frozenset(recipe.to_dict()), lengths=LENGTHS), None
    )


def phase_bytes(plan: Plan, name: str) -> int:
    return next(p.peak.expected_bytes for p in with_rehearsal(plan.estimate.phases) if p.name == name)


def test_a_smaller_plan_needs_less_and_learns_the_same() -> None:
    plan = plan_of(LARGE)
    smaller = smaller_plan(
        plan, [Failure(recipe=plan.recipe, phase="steady step", had_bytes=4 * GIB)], LENGTHS
    )
    assert smaller is not None
    assert smaller.recipe != plan.recipe
    assert smaller.recipe.effective_batch == 8
    assert 8 % smaller.recipe.batch_size == 0
    unchanged = {knob: value for knob, value in plan.recipe.to_dict().items() if knob not in KNOBS}
    assert unchanged.items() <= smaller.recipe.to_dict().items()
    assert smaller.time is not None
    assert plan.time is not None
    assert smaller.time.steps == plan.time.steps
    assert smaller.time.total_s == pytest.approx(smaller.time.steps * smaller.time.step_s)
    assert smaller.time.step_s >= 0.95 * plan.time.step_s
    assert smaller.decisions[-1].knob == "after running out of memory"


def test_what_was_needed_beyond_the_estimate_is_in_the_next_one() -> None:
    plan = plan_of(LARGE, 2 * GIB)
    had = phase_bytes(plan, "steady step") + 100 * MIB
    smaller = smaller_plan(plan, [Failure(recipe=plan.recipe, phase="steady step", had_bytes=had)], LENGTHS)
    assert smaller is not None
    assert smaller.estimate.peak.required_bytes <= had
    excess = int(had * 1.05) - phase_bytes(plan, "steady step")
    raw = plan_of(smaller.recipe, 2 * GIB)
    assert phase_bytes(smaller, "steady step") == phase_bytes(raw, "steady step") + excess
    assert phase_bytes(smaller, "import") == phase_bytes(raw, "import")
    assert all(sum(p.components.values()) == p.peak.expected_bytes for p in smaller.estimate.phases)


def test_no_failed_plan_comes_back() -> None:
    plan, failures, seen = plan_of(LARGE), [], [LARGE]
    while True:
        failures.append(Failure(recipe=plan.recipe, phase="steady step", had_bytes=4 * GIB))
        smaller = smaller_plan(plan, failures, LENGTHS)
        if smaller is None:
            break
        assert smaller.recipe not in seen
        assert phase_bytes(plan_of(smaller.recipe), "steady step") < phase_bytes(
            plan_of(plan.recipe), "steady step"
        )
        seen.append(smaller.recipe)
        plan = smaller
    assert len(seen) > 2
    assert (plan.recipe.batch_size, plan.recipe.checkpointing, plan.recipe.loss) == (1, "full", "chunked")


def test_where_a_limit_was_lowered_the_next_plan_fits_it() -> None:
    plan = plan_of(LARGE)
    had = phase_bytes(plan, "steady step") - 200 * MIB
    smaller = smaller_plan(plan, [Failure(recipe=plan.recipe, phase="steady step", had_bytes=had)], LENGTHS)
    assert smaller is not None
    assert smaller.estimate.peak.required_bytes <= had


def test_a_rehearsal_as_planned_changes_nothing() -> None:
    plan = plan_of(LARGE)
    measured = phase_bytes(plan, "rehearsal")
    assert rehearsed_plan(plan, measured, LENGTHS, None) is None
    assert rehearsed_plan(plan, measured, LENGTHS, KNOBS) is None


def test_room_is_used_only_when_asked_and_by_knobs_that_are_free() -> None:
    lean = replace(LARGE, batch_size=1, accumulation=8, checkpointing="full", loss="chunked")
    plan = plan_of(lean)
    measured = phase_bytes(plan, "rehearsal") - 100 * MIB
    assert rehearsed_plan(plan, measured, LENGTHS, None) is None
    grown = rehearsed_plan(plan, measured, LENGTHS, frozenset())
    assert grown is not None
    assert plan.time is not None
    assert grown.time is not None
    assert grown.time.step_s < 0.95 * plan.time.step_s
    assert grown.recipe.effective_batch == 8
    assert grown.estimate.fits
    assert "the rehearsal left" in grown.decisions[-1].reason
    kept = rehearsed_plan(plan, measured, LENGTHS, frozenset({"checkpointing", "batch_size"}))
    assert kept is None or (kept.recipe.batch_size, kept.recipe.checkpointing) == (1, "full")


def test_a_rehearsal_that_leaves_too_little_shrinks_the_plan() -> None:
    plan = plan_of(LARGE, 2 * GIB)
    short = replace(
        plan,
        estimate=replace(plan.estimate, budget=made_up.budget(phase_bytes(plan, "rehearsal") + 50 * MIB)),
    )
    measured = phase_bytes(plan, "rehearsal") + 60 * MIB
    smaller = rehearsed_plan(short, measured, LENGTHS, None)
    assert smaller is not None
    assert smaller.estimate.fits
    assert smaller.recipe.effective_batch == 8
    assert "more than planned" in smaller.decisions[-1].reason


def test_an_estimate_can_be_shifted_down_beyond_the_runtime() -> None:
    estimate = plan_of(LARGE).estimate
    lower = shifted(estimate, -estimate.peak.components["runtime"] - MIB)
    assert lower.peak.peak.expected_bytes < estimate.peak.peak.expected_bytes
    assert all(sum(p.components.values()) == p.peak.expected_bytes for p in lower.phases)
    assert all(value >= 0 for p in lower.phases for value in p.components.values())
