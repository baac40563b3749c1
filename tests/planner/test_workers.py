"""What a DataLoader's workers add: they are forks, and copy what is written after they started."""

from __future__ import annotations

from dataclasses import replace

import made_up
import pytest

from lplan.planner.constants import constants
from lplan.planner.estimating import Situation, make_estimate
from lplan.planner.plan import Schedule
from lplan.planner.planning import task_for
from lplan.planner.recipe import Recipe
from lplan.planner.request import Request
from lplan.profiles.errors import UsageError
from lplan.profiles.units import GIB

SHARED, EACH = (constants("data")["loader"][name] for name in ("shared_bytes", "each_bytes"))
HERE = Situation(
    model=made_up.MODEL, hardware=made_up.HARDWARE, budget=made_up.budget(8 * GIB), baseline=made_up.LIBRARIES,
    versions={},
)  # fmt: skip


def added(workers=1, **knobs):
    """Bytes that workers add to each phase."""
    recipe = Recipe(**knobs)
    with_workers, without = (
        make_estimate(one, made_up.footprint(one), HERE).phases
        for one in (replace(recipe, loader_workers=workers), recipe)
    )
    return {
        one.name: one.peak.expected_bytes - other.peak.expected_bytes
        for one, other in zip(with_workers, without, strict=True)
    }


ADAPTERS = 4 * made_up.TRAINABLE


@pytest.mark.parametrize("workers", [1, 4])
def test_each_has_pages_of_its_own_and_all_share_one_copy_of_what_the_parent_writes(workers):
    found = added(workers)
    assert found["import"] == found["load"] == found["wrap"] == 0
    for phase in ("first step", "steady step", "save"):
        assert found[phase] == SHARED + workers * EACH + ADAPTERS
    assert found["evaluation"] == SHARED + 2 * workers * EACH + ADAPTERS


def test_trained_weights_are_copied_unless_they_are_pages_of_their_file_when_the_workers_start():
    converted = added(method="full", precision="fp32")["steady step"]
    mapped = added(method="full", precision="bf16")["steady step"]
    made_here = added(method="full", precision="bf16", init="random")["steady step"]
    assert converted == SHARED + EACH + 4 * made_up.PARAMETERS
    assert made_here == SHARED + EACH + 2 * made_up.PARAMETERS
    assert mapped == SHARED + EACH


@pytest.mark.parametrize("knob", ["loader_workers", "tokenizing_workers"])
def test_runs_of_lplan_have_none(knob):
    request = Request(Recipe(**{knob: 3}), Schedule(), frozenset((knob,)))
    with pytest.raises(UsageError, match="no worker processes for their data, not 3") as caught:
        task_for(request, HERE)
    assert "lplan estimate" in caught.value.hint


@pytest.mark.parametrize("knob", ["loader_workers", "tokenizing_workers"])
def test_they_change_no_graph_and_cannot_be_negative(knob):
    assert Recipe(**{knob: 3}).graph() == Recipe().graph()
    with pytest.raises(UsageError, match="cannot be negative"):
        Recipe(**{knob: -1})
