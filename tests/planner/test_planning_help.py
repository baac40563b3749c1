"""When nothing fits: every suggestion is tried, and makes it fit."""

import re
from dataclasses import replace

import made_up
import pytest
from made_up import HARDWARE, budget, task

from lplan.planner.planning import make_plan, misses_bytes, what_would_help
from lplan.planner.recipe import Recipe
from lplan.planner.request import Request, fit_to_data
from lplan.planner.tokens import TokenLengths
from lplan.profiles.machine import THIS_MACHINE
from lplan.profiles.units import GIB, MIB, parse_size

RAGGED = TokenLengths(total=tuple(range(20, 420, 2)), supervised=(12,) * 200)
"""200 sequences of up to 418 tokens."""


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def no_torch(monkeypatch, cache):
    return made_up.install(monkeypatch, cache)


def fitted(lengths, **knobs):
    start = task(recipe=Recipe(**knobs), given=frozenset(knobs))
    return fit_to_data(Request(start.start, start.schedule, start.given), lengths).recipe


def cut(lengths, longest):
    """As the trainer's encoding would cut them, at worst."""
    return TokenLengths(total=tuple(min(n, longest) for n in lengths.total), supervised=lengths.supervised)


def missing(budget_bytes, lengths=RAGGED, hardware=HARDWARE, **knobs):
    """A task that nothing fits, its closest plan, and the advice."""
    recipe = fitted(lengths, **knobs) if lengths else Recipe(**knobs)
    wanted = task(budget_bytes, recipe=recipe, lengths=lengths, given=frozenset(knobs), hardware=hardware)
    plan = make_plan(wanted, None)
    assert not plan.estimate.fits
    return wanted, plan, what_would_help(wanted, plan)


def with_budget(wanted, budget_bytes):
    return replace(wanted, situation=replace(wanted.situation, budget=budget(budget_bytes)))


def test_the_suggested_budget_is_the_least_that_fits():
    wanted, plan, advice = missing(450 * MIB)
    suggested = parse_size(re.search(r"--ram (\d+M)$", advice[0])[1])
    assert make_plan(with_budget(wanted, suggested), None).estimate.fits
    assert not make_plan(with_budget(wanted, suggested - MIB), None).estimate.fits
    assert suggested - MIB < 450 * MIB + misses_bytes(plan) <= suggested


def test_a_budget_that_the_machine_does_not_have_is_not_suggested():
    small = replace(HARDWARE, memory_bytes=GIB, reserve_bytes=600 * MIB)
    _, _, advice = missing(424 * MIB, hardware=small)
    assert advice[0].startswith("a machine that leaves the run 0.")
    here = replace(small, name=THIS_MACHINE)  # asked for by name of the size, all of it may be used
    assert "--ram" in missing(424 * MIB, hardware=here)[2][0]


@pytest.mark.parametrize(
    ("knobs", "flag"),
    [
        ({"batch_size": 8}, "--batch-size 1"),
        ({"checkpointing": "none", "batch_size": 4}, "--checkpointing full"),
    ],
)
def test_a_given_knob_that_is_in_the_way_is_named(knobs, flag):
    wanted, _, advice = missing(700 * MIB, **knobs)
    assert flag in advice
    knob, value = flag.removeprefix("--").replace("-", "_").split()
    changed = {**knobs, knob: int(value) if value.isdigit() else value}
    again = task(700 * MIB, recipe=fitted(RAGGED, **changed), lengths=RAGGED, given=wanted.given)
    assert make_plan(again, None).estimate.fits


def test_knobs_that_help_only_together_are_named_together():
    _, _, advice = missing(660 * MIB, batch_size=8, checkpointing="none")
    assert "all of --batch-size 1 --checkpointing full" in advice
    again = task(660 * MIB, recipe=fitted(RAGGED, batch_size=1, checkpointing="full"), lengths=RAGGED)
    assert make_plan(again, None).estimate.fits


def test_full_fine_tuning_is_answered_with_lora():
    _, _, advice = missing(700 * MIB, method="full")
    assert "--method lora" in advice


def test_a_knob_that_nobody_gave_is_not_suggested():
    _, plan, advice = missing(450 * MIB)
    assert (plan.recipe.batch_size, plan.recipe.checkpointing) == (1, "full")
    assert not any(line.startswith(("--batch-size", "--checkpointing", "all of")) for line in advice)


def test_a_suggested_length_fits_and_its_cuts_are_counted():
    wanted, _, advice = missing(700 * MIB, batch_size=1, checkpointing="none")
    line = next(line for line in advice if "--seq-len" in line)
    length, truncated, samples = map(
        int, re.search(r"--seq-len (\d+), which cuts (\d+) of (\d+)", line).groups()
    )
    assert truncated == sum(n > length for n in RAGGED.total)
    assert samples == len(RAGGED.total)
    shorter = cut(RAGGED, length)
    recipe = fitted(shorter, batch_size=1, checkpointing="none")
    again = replace(wanted, start=recipe, lengths=shorter)
    assert make_plan(again, None).estimate.fits


def test_a_length_that_would_cut_most_of_the_data_is_no_help():
    same = TokenLengths(total=(400,) * 20, supervised=(12,) * 20)
    _, _, advice = missing(600 * MIB, lengths=same, batch_size=8, checkpointing="none")
    assert not any("--seq-len" in line for line in advice)


def test_without_data_a_shorter_length_is_suggested_all_the_same():
    wanted, _, advice = missing(600 * MIB, lengths=None, batch_size=2, checkpointing="none")
    line = next(line for line in advice if "--seq-len" in line)
    length = int(line.split()[-1])
    recipe = replace(wanted.start, seq_len=length, supervised_len=length)
    assert make_plan(replace(wanted, start=recipe), None).estimate.fits


def test_weights_that_fill_the_budget_point_to_smaller_models():
    assert any("lplan models" in line for line in missing(150 * MIB)[2])
    assert not any("lplan models" in line for line in missing(450 * MIB)[2])


def test_a_model_that_cannot_chunk_its_loss_is_not_told_to(monkeypatch, tmp_path):
    monkeypatch.setenv("LPLAN_CACHE", str(tmp_path))
    traced = made_up.footprint

    def unchunkable(recipe):
        return replace(traced(recipe), chunkable=False)

    monkeypatch.setattr(made_up, "footprint", unchunkable)
    _, _, advice = missing(450 * MIB, loss="full")
    assert not any("--loss" in line for line in advice)
