"""The walk ends at the plan, and what its measures save adds up."""

from __future__ import annotations

import made_up
import pytest

from lplan.planner.planning import make_plan
from lplan.planner.recipe import Recipe
from lplan.planner.walk import walk
from lplan.profiles.units import GIB, MIB


@pytest.fixture(autouse=True)
def _installed(monkeypatch, tmp_path):
    made_up.install(monkeypatch, tmp_path)


@pytest.mark.parametrize("budget", [600 * MIB, 8 * GIB])
def test_from_full_fine_tuning_to_the_plan(budget):
    task = made_up.task(budget, recipe=Recipe(seq_len=128, supervised_len=128, padding="none"))
    plan = make_plan(task, None)
    measures = walk(task, plan.recipe)
    assert measures[0].name == "full fine-tuning"
    assert measures[0].time_ratio is None
    assert measures[0].peak_bytes - sum(m.saves_bytes for m in measures) == measures[-1].peak_bytes
    assert measures[-1].peak_bytes == plan.estimate.peak.peak.expected_bytes
    assert measures[-1].fits == plan.estimate.fits
    names = [measure.name for measure in measures]
    assert len(names) == len(set(names))
    assert "adapters" in " ".join(names)
