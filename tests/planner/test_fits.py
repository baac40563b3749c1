"""What fits where: each row against the search of its own pair."""

from __future__ import annotations

from dataclasses import replace

import made_up
import pytest

from lplan.planner.aim import Aim
from lplan.planner.fits import fits, place
from lplan.planner.recipe import Recipe
from lplan.planner.search import price_all, search
from lplan.profiles.units import GIB, MIB

CONTEXT = 4096
MODEL = replace(made_up.MODEL, config={**made_up.MODEL.config, "max_position_embeddings": CONTEXT})
ASKED = {"padding": "none"}


@pytest.fixture(autouse=True)
def traced(monkeypatch, tmp_path):
    return made_up.install(monkeypatch, tmp_path)


def rows(*budgets, model=MODEL, asked=ASKED):
    places = [place(made_up.HARDWARE, made_up.budget(size), asked) for size in budgets]
    return list(fits([(model, places)]))


def wanted(budget_bytes, recipe):
    given = frozenset(recipe.to_dict()) - {"batch_size", "accumulation", "checkpointing"}
    task = made_up.task(budget_bytes, recipe=recipe, given=given)
    return replace(task, situation=replace(task.situation, model=MODEL))


@pytest.mark.parametrize("budget_mib", [600, 700, 1500, 8000])
def test_a_row_fits_at_the_price_that_its_recipe_has(budget_mib):
    (row,) = rows(budget_mib * MIB)
    (alone,) = price_all(wanted(budget_mib * MIB, row.recipe), [row.recipe])
    assert alone.fits
    assert row.required_bytes == alone.required_bytes <= budget_mib * MIB
    assert row.recipe.effective_batch == Recipe().effective_batch


def test_more_memory_is_used_for_less_recomputation():
    tight, roomy = rows(600 * MIB, 8 * GIB)
    assert (tight.recipe.checkpointing, roomy.recipe.checkpointing) == ("full", "none")


@pytest.mark.parametrize("budget_mib", [600, 700, 1500])
def test_the_longest_fits_and_the_next_does_not(budget_mib):
    (row,) = rows(budget_mib * MIB)
    leanest = replace(row.recipe, batch_size=1, accumulation=8, checkpointing="full")
    task = wanted(budget_mib * MIB, leanest)
    everything = replace(task, given=frozenset(leanest.to_dict()) - {"seq_len"}, aim=Aim(objective="longest"))
    assert row.longest == search(everything).chosen.recipe.seq_len


def test_what_is_too_large_says_by_what(traced):
    small, none = rows(470 * MIB, 90 * MIB)
    assert (small.recipe, small.why_not) == (None, "needs more")
    assert small.required_bytes > 470 * MIB
    assert none.why_not == "the weights alone are too large"
    traced.clear()
    rows(90 * MIB)
    assert traced == []


def test_two_graphs_serve_all_machines(traced):
    assert len(rows(*(size * GIB for size in (1, 2, 4, 8)))) == 4
    assert len(traced) <= 2


def test_an_unknown_speed_is_not_shown():
    (row,) = rows(8 * GIB)
    assert row.tokens_per_s is None


def test_a_refusal_is_a_row():
    (row,) = rows(8 * GIB, asked={**ASKED, "method": "qlora"})
    assert row.recipe is None
    assert row.why_not
