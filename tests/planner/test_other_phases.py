"""What comes besides a run, by the rules of docs/memory-model.md; benchmarks hold them against processes."""

from __future__ import annotations

import json
from dataclasses import replace

import made_up
import pytest

from lplan.planner.documents import estimate_document, plan_document, read_plan
from lplan.planner.estimating import Situation, make_estimate
from lplan.planner.footprint import Linear, footprint_from_dict
from lplan.planner.other_phases import with_other_phases
from lplan.planner.plan import Plan, Schedule
from lplan.planner.polynomial import term
from lplan.planner.recipe import Recipe
from lplan.profiles.units import GIB, MIB

ELEMENTS, LARGEST = 20_000_000, 4_000_000
ADAPTED = {"adapted": Linear(term("1", ELEMENTS)), "largest_adapted": LARGEST}


def estimated(recipe, budget_bytes=8 * GIB):
    here = Situation(
        model=made_up.MODEL,
        hardware=made_up.HARDWARE,
        budget=made_up.budget(budget_bytes),
        baseline=made_up.LIBRARIES,
        versions={"lplan": "0"},
    )
    found = replace(made_up.footprint(recipe), **(ADAPTED if recipe.adapts else {}))
    return with_other_phases(make_estimate(recipe, found, here), found, here)


def others(recipe):
    return {phase.name: phase for phase in estimated(recipe).other_phases}


RECIPES = [
    Recipe(),
    Recipe(precision="fp32"),
    Recipe(dora=True),
    Recipe(method="full"),
    Recipe(init="random"),
]


@pytest.mark.parametrize("recipe", RECIPES, ids=["lora", "fp32", "dora", "full", "random"])
def test_every_phase_adds_up(recipe):
    found = others(recipe)
    assert ("merge in place" in found) == recipe.adapts
    assert ("merge into a copy" in found) == (recipe.adapts and recipe.init == "pretrained")
    for phase in found.values():
        assert sum(phase.components.values()) == phase.peak.expected_bytes
        assert phase.anonymous_bytes + phase.file_bytes == phase.peak.expected_bytes
        assert 0 <= phase.reclaimable_bytes <= phase.file_bytes
        assert phase.peak.low_bytes <= phase.peak.expected_bytes <= phase.peak.high_bytes


def test_the_run_itself_is_as_it_was():
    plain = make_estimate(
        Recipe(),
        made_up.footprint(Recipe()),
        Situation(
            model=made_up.MODEL,
            hardware=made_up.HARDWARE,
            budget=made_up.budget(8 * GIB),
            baseline=made_up.LIBRARIES,
            versions={"lplan": "0"},
        ),
    )
    found = estimated(Recipe())
    assert replace(found, other_phases=(), assumptions=plain.assumptions) == plain
    assert found.assumptions[:-1] == plain.assumptions


def test_resuming_restores_the_states_from_pages_that_can_be_dropped():
    phase = others(Recipe())["resume"]
    assert phase.components["optimizer"] == 8 * made_up.TRAINABLE
    assert phase.reclaimable_bytes == 8 * made_up.TRAINABLE


@pytest.mark.parametrize(
    ("recipe", "base_bytes", "written_bytes", "delta_bytes"),
    [
        (Recipe(), 2 * made_up.PARAMETERS, 2 * ELEMENTS, 12 * LARGEST),
        (Recipe(adapter_dtype="base"), 2 * made_up.PARAMETERS, 2 * ELEMENTS, 8 * LARGEST),
    ],
)
def test_merging_in_place_copies_what_it_writes(recipe, base_bytes, written_bytes, delta_bytes):
    """Either the last weight is merged, or all of the base is read for saving: what is more."""
    phase = others(recipe)["merge in place"]
    tensors = phase.peak.expected_bytes - phase.components["runtime"]
    merging = written_bytes + delta_bytes + 4 * made_up.TRAINABLE
    assert tensors == max(merging, base_bytes)
    assert phase.file_bytes >= (base_bytes - written_bytes if base_bytes > merging else 0)


def test_a_copy_needs_blocks_and_not_the_model():
    phase = others(Recipe())["merge into a copy"]
    block = 4 * LARGEST
    assert phase.components["temporaries"] == 3 * block
    assert phase.peak.high_bytes >= phase.peak.expected_bytes + 2 * block
    assert phase.peak.high_bytes < 2 * made_up.PARAMETERS + 350 * MIB


def test_documents_keep_them(tmp_path):
    estimate = estimated(Recipe(), budget_bytes=400 * MIB)
    document = estimate_document(estimate)
    assert {phase["name"]: phase["fits"] for phase in document["other_phases"]}["resume"]
    assert not {phase["name"]: phase["fits"] for phase in document["other_phases"]}["merge in place"]
    assert document["phases"][0].keys() | {"fits"} == document["other_phases"][0].keys()
    plan = Plan(recipe=Recipe(), schedule=Schedule(), estimate=estimate, decisions=(), time=None, data=None)
    (tmp_path / "plan.json").write_text(json.dumps(plan_document(plan)))
    assert read_plan(tmp_path / "plan.json").estimate.other_phases == estimate.other_phases


def test_a_footprint_keeps_what_can_be_merged():
    found = replace(made_up.footprint(Recipe()), **ADAPTED)
    assert footprint_from_dict(json.loads(json.dumps(found.to_dict()))) == found
