"""Every knob changed alone: what it saves is the difference of two estimates, and what cannot be is left out."""

from __future__ import annotations

from dataclasses import replace

import made_up
import pytest

from lplan.planner.estimating import make_estimate
from lplan.planner.recipe import Recipe
from lplan.planner.toggles import toggles
from lplan.planner.tracer import baseline


@pytest.fixture(autouse=True)
def _installed(monkeypatch, tmp_path):
    made_up.install(monkeypatch, tmp_path)


RECIPE = Recipe(batch_size=4, accumulation=2, seq_len=128, supervised_len=128, padding="none")


def found(recipe=RECIPE):
    task = made_up.task(recipe=recipe)
    return task.situation, toggles(recipe, task.situation, task.rates)


def test_a_toggle_is_the_difference_of_two_estimates():
    situation, changes = found()
    situation = replace(situation, baseline=baseline())
    (full,) = (t for t in changes if (t.knob, t.value) == ("checkpointing", "full"))
    changed = replace(RECIPE, checkpointing="full")
    peaks = [
        make_estimate(r, made_up.footprint(r), situation).peak.peak.expected_bytes for r in (RECIPE, changed)
    ]
    assert full.peak_bytes == peaks[1]
    assert full.saves_bytes == peaks[0] - peaks[1] > 0
    assert full.time_ratio > 1


def test_largest_savings_come_first():
    savings = [toggle.saves_bytes for toggle in found()[1]]
    assert savings == sorted(savings, reverse=True)
    assert savings[0] > 0 > savings[-1]


def test_nothing_that_a_cpu_has_not_and_nothing_that_is_so_already():
    changes = {(toggle.knob, toggle.value) for toggle in found()[1]}
    assert not changes & {("precision", "fp16"), ("method", "qlora nf4"), ("optimizer", "adamw-8bit")}
    assert not changes & {("checkpointing", "none"), ("allocator", "pinned"), ("precision", "bf16")}
    assert {("micro batch", "2"), ("micro batch", "8"), ("sequence length", "64")} <= changes


def test_without_rates_nothing_is_said_of_time():
    task = made_up.task(recipe=RECIPE)
    assert all(t.time_ratio is None for t in toggles(RECIPE, task.situation, None))
