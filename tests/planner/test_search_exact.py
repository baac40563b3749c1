"""The search finds what a complete enumeration finds, and its bounds are bounds."""

from __future__ import annotations

from dataclasses import replace

import made_up
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lplan.planner.pricer import Bound, Candidate, Pricer
from lplan.planner.recipe import Recipe
from lplan.planner.search import EQUALLY_FAST, price_all, search, tracing
from lplan.planner.space import space
from lplan.profiles.units import MIB

LENIENT = settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
BUDGETS = st.integers(350, 4000).map(lambda mib: mib * MIB)
RECIPES = st.builds(
    lambda effective, length, method: Recipe(
        batch_size=1,
        accumulation=effective,
        seq_len=length,
        supervised_len=length,
        method=method,
        padding="none",
    ),
    st.sampled_from((1, 4, 6, 8, 12)),
    st.integers(16, 1024),
    st.sampled_from(("lora", "full")),
)


@pytest.fixture(autouse=True)
def _installed(monkeypatch, tmp_path_factory):
    made_up.install(monkeypatch, tmp_path_factory.mktemp("cache"))


def best_of_all(candidates):
    """The rule, on everything: the fastest that fits, the smallest of those within 5 %; else the smallest."""
    fitting = [c for c in candidates if c.fits]
    if not fitting:
        return min((c.required_bytes, c.time.step_s) for c in candidates)
    fastest_s = min(c.time.step_s for c in fitting)
    equal = [c for c in fitting if c.time.step_s <= fastest_s * (1 + EQUALLY_FAST)]
    return min((c.required_bytes, c.time.step_s) for c in equal)


@LENIENT
@given(BUDGETS, RECIPES)
def test_the_search_finds_the_optimum_of_the_whole_grid(budget_bytes, recipe):
    task = made_up.task(budget_bytes, recipe=recipe)
    everything = [c for c in price_all(task, list(space(task))) if isinstance(c, Candidate)]
    chosen = search(task).chosen
    assert (chosen.required_bytes, chosen.time.step_s) == best_of_all(everything)


@LENIENT
@given(BUDGETS, RECIPES)
def test_no_recipe_needs_less_than_its_bound(budget_bytes, recipe):
    task = made_up.task(budget_bytes, recipe=recipe)
    with tracing(task, None) as footprints:
        pricer = Pricer(task, footprints)
        for one in space(task):
            untraced = pricer.bound(one)
            exact = pricer.price(one)
            bound = pricer.bound(one)
            assert isinstance(untraced, Bound)
            assert isinstance(bound, Bound)
            assert isinstance(exact, Candidate)
            assert untraced.least_s <= exact.time.step_s * (1 + 1e-9)
            assert bound.least_s == exact.time.step_s
            assert max(untraced.least_bytes, bound.least_bytes) <= exact.required_bytes


@LENIENT
@given(RECIPES, st.integers(1, 64), st.integers(1, 512))
def test_bounds_grow_with_batch_and_length(recipe, batches, tokens):
    larger = replace(
        recipe, batch_size=recipe.batch_size + batches, seq_len=recipe.seq_len + tokens,
        supervised_len=recipe.supervised_len + tokens,
    )  # fmt: skip
    task = made_up.task(recipe=recipe)
    with tracing(task, None) as footprints:
        pricer = Pricer(task, footprints)
        pricer.learn(recipe)
        assert pricer.bound(larger).least_bytes >= pricer.bound(recipe).least_bytes


@LENIENT
@given(RECIPES, BUDGETS, st.integers(0, 4000))
def test_more_memory_never_makes_a_plan_slower_and_plans_fit_by_their_own_estimate(
    recipe, budget_bytes, more
):
    less = search(made_up.task(budget_bytes, recipe=recipe)).chosen
    found = search(made_up.task(budget_bytes + more * MIB, recipe=recipe)).chosen
    assert found.fits or not less.fits
    if less.fits:
        assert found.time.step_s <= less.time.step_s * (1 + EQUALLY_FAST)
        assert less.estimate.peak.required_bytes <= budget_bytes


@LENIENT
@given(RECIPES, BUDGETS)
def test_the_effective_batch_is_exact(recipe, budget_bytes):
    chosen = search(made_up.task(budget_bytes, recipe=recipe)).chosen.recipe
    assert chosen.batch_size * chosen.accumulation == recipe.effective_batch


def test_a_search_traces_only_what_can_matter(monkeypatch, tmp_path):
    traced = made_up.install(monkeypatch, tmp_path)
    task = made_up.task(recipe=Recipe(seq_len=128, supervised_len=128, padding="none"))
    graphs = {recipe.graph() for recipe in space(task)}
    assert search(task).chosen.recipe.checkpointing == "none"
    assert len(traced) < len(graphs)
    assert len(traced) == len({recipe.graph() for recipe in traced})
