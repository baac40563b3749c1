"""Objectives against complete enumeration; what may change the training objective, and what may not."""

from __future__ import annotations

from dataclasses import replace

import made_up
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lplan.planner.aim import CHANGES, Aim, make_aim
from lplan.planner.floating import FLOATING
from lplan.planner.frontier import pareto, what_if
from lplan.planner.planning import make_plan
from lplan.planner.pricer import Candidate
from lplan.planner.recipe import ALL_LINEAR, Recipe
from lplan.planner.search import price_all, search
from lplan.planner.space import space, tiers
from lplan.profiles.budget import kept_free
from lplan.profiles.errors import DoesNotFitError, UsageError
from lplan.profiles.units import GIB, MIB

RECIPE = Recipe(batch_size=1, accumulation=8, seq_len=256, supervised_len=256, padding="none")
BUDGETS = st.integers(460, 3000).map(lambda mib: mib * MIB)
FEW = settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(autouse=True)
def _installed(monkeypatch, tmp_path_factory):
    made_up.install(monkeypatch, tmp_path_factory.mktemp("cache"))


def wanted(budget_bytes=8 * GIB, recipe=RECIPE, given=(), **aim):
    task = made_up.task(budget_bytes, recipe=recipe, given=frozenset(given))
    return replace(task, aim=Aim(**aim))


def everything(task):
    return [c for c in price_all(task, list(space(task))) if isinstance(c, Candidate)]


@FEW
@given(BUDGETS)
def test_least_memory_is_the_least_of_all(budget_bytes):
    task = wanted(budget_bytes, objective="least-memory")
    least = min(c.required_bytes for c in everything(task))
    assert search(task).chosen.required_bytes == least


@FEW
@given(BUDGETS)
def test_the_largest_batch_is_the_largest_that_fits_at_all(budget_bytes):
    task = wanted(budget_bytes, objective="largest-batch")
    fitting = [c.recipe.batch_size for c in everything(task) if c.fits]
    chosen = search(task).chosen
    assert chosen.fits == bool(fitting)
    if fitting:
        assert chosen.recipe.batch_size == max(fitting)


@FEW
@given(BUDGETS)
def test_quality_takes_the_highest_precision_that_fits(budget_bytes):
    task = wanted(budget_bytes, objective="quality")
    order = ("fp32", "bf16-amp", "bf16")
    fitting = [order.index(c.recipe.precision) for c in everything(task) if c.fits]
    if fitting:
        assert order.index(search(task).chosen.recipe.precision) == min(fitting)


@FEW
@given(BUDGETS)
def test_the_longest_is_the_last_that_fits(budget_bytes):
    task = wanted(budget_bytes, objective="longest")
    model = replace(
        task.situation.model, config={**task.situation.model.config, "max_position_embeddings": 600}
    )
    task = replace(task, situation=replace(task.situation, model=model))
    lengths = {tier.task.start.seq_len: tier.task for tier in tiers(task)}
    fitting = [n for n, one in lengths.items() if any(c.fits for c in everything(one))]
    chosen = search(task).chosen
    assert chosen.fits == bool(fitting)
    if fitting:
        assert chosen.recipe.seq_len == chosen.recipe.supervised_len == max(fitting)
        (length,) = [d for d in make_plan(task, None).decisions if d.knob == "sequence length"]
        assert "longest that fits" in length.reason


@FEW
@given(BUDGETS)
def test_the_frontier_is_what_nothing_beats(budget_bytes):
    task = wanted(budget_bytes)
    points = [(p.step_s, p.required_bytes) for p in pareto(task)]
    all_points = {(c.time.step_s, c.required_bytes) for c in everything(task)}
    unbeaten = {
        (s, b)
        for s, b in all_points
        if not any((t, c) != (s, b) and t <= s and c <= b for t, c in all_points)
    }
    assert points == sorted(unbeaten)


def test_what_if_is_a_plan_with_that_budget():
    task = wanted(700 * MIB)
    (_, more), (_, less) = what_if(task, [GIB, -200 * MIB])
    there = search(wanted(700 * MIB + GIB)).chosen
    assert (more.recipe, more.step_s, more.fits) == (there.recipe, there.time.step_s, True)
    assert less.required_bytes <= more.required_bytes
    with pytest.raises(DoesNotFitError):
        what_if(task, [-GIB])


def test_what_changes_the_objective_is_never_chosen_unasked():
    long = replace(RECIPE, seq_len=8192, supervised_len=8192, target_modules=ALL_LINEAR, rank=64)
    tight = wanted(560 * MIB, recipe=long)
    chosen = search(tight)
    assert not chosen.chosen.fits
    assert chosen.changes == ()
    kept = chosen.chosen.recipe
    assert (kept.seq_len, kept.rank, kept.target_modules, kept.quantization) == (8192, 64, ALL_LINEAR, "none")


def test_an_allowed_change_is_made_only_where_nothing_fits_without_and_is_flagged():
    assert search(wanted(allow=("truncation",))).changes == ()
    long = replace(RECIPE, seq_len=2048, supervised_len=2048)
    task = wanted(700 * MIB, recipe=long, given={"checkpointing"}, allow=("truncation",))
    assert not search(replace(task, aim=Aim())).chosen.fits
    plan = make_plan(task, None)
    assert plan.estimate.fits
    assert plan.recipe.seq_len < 2048
    (line,) = [d for d in plan.decisions if d.knob == "truncation"]
    assert line.reason.startswith("changes what is learned")
    assert not line.given


def test_a_kept_knob_stays_as_it_usually_is():
    plan = make_plan(wanted(keep=frozenset({"loss"})), None)
    assert plan.recipe.loss == RECIPE.loss
    (line,) = [d for d in plan.decisions if d.knob == "loss"]
    assert line.given
    assert line.rejected == ()


def test_the_words_of_the_flags():
    aim = make_aim("quality", ["batch-size", "rank"], "truncation, quantization", FLOATING)
    assert aim.keep == {"batch_size", "rank"}
    assert aim.allow == ("quantization", "truncation")
    assert make_aim(None, ["batch-size, rank"], None, FLOATING).keep == aim.keep
    assert make_aim(None, [], None, FLOATING) == Aim()
    assert make_aim(None, [], ",".join(reversed(CHANGES)), FLOATING).allow == CHANGES


@pytest.mark.parametrize(
    ("keep", "allow", "named"),
    [
        (["loss,nothing"], None, "--keep 'nothing'"),
        ([], "speed", "speed"),
        (["quantization"], "quantization", "exclude"),
    ],
)
def test_words_that_mean_nothing_are_refused(keep, allow, named):
    with pytest.raises(UsageError, match=named) as raised:
        make_aim(None, keep, allow, FLOATING)
    assert raised.value.hint


@pytest.mark.parametrize(("safety", "left"), [(0.25, 6 * GIB), (GIB, 7 * GIB), (None, 8 * GIB), (9 * GIB, 0)])
def test_safety_is_kept_free(safety, left):
    budget = kept_free(made_up.budget(8 * GIB), safety)
    assert budget.budget_bytes == left
    assert ("--safety" in budget.reason) == bool(safety)
