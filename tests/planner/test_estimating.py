"""From tensors to a process: what each phase counts, and where its bytes live."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import made_up
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lplan.planner.estimate import COMPONENTS, PHASES, Estimate, PhaseEstimate
from lplan.planner.estimating import Situation, make_estimate, shape_of
from lplan.planner.footprint import Footprint
from lplan.planner.polynomial import Shape
from lplan.planner.recipe import LOSS_CHUNK, Recipe
from lplan.planner.runtime import growth
from lplan.profiles.model import WeightFiles
from lplan.profiles.units import GIB, MIB

STEPS = ("first step", "steady step", "evaluation")
FILES = WeightFiles(format="safetensors", dtype="bfloat16", total_bytes=100 * MIB, shard_bytes=(100 * MIB,))


def situation(weights: WeightFiles = FILES, budget_bytes: int = 8 * GIB) -> Situation:
    return Situation(
        model=replace(made_up.MODEL, weights=weights),
        hardware=made_up.HARDWARE,
        budget=made_up.budget(budget_bytes),
        baseline=made_up.LIBRARIES,
        versions={"lplan": "0"},
    )


def estimated(
    recipe: Recipe, weights: WeightFiles = FILES, footprint: Footprint | None = None, **how: Any
) -> Estimate:
    return make_estimate(recipe, footprint or made_up.footprint(recipe), situation(weights, **how))


def phases(recipe: Recipe, **how: Any) -> dict[str, PhaseEstimate]:
    return {phase.name: phase for phase in estimated(recipe, **how).phases}


RECIPES = [
    Recipe(),
    Recipe(precision="fp32"),
    Recipe(precision="bf16-amp", loss="chunked"),
    Recipe(method="full", allocator="default"),
    Recipe(init="random", checkpointing="full"),
]


@pytest.mark.parametrize("recipe", RECIPES, ids=str)
def test_every_phase_adds_up(recipe: Recipe) -> None:
    found = phases(recipe)
    assert tuple(found) == PHASES
    for phase in found.values():
        assert sum(phase.components.values()) == phase.peak.expected_bytes
        assert phase.anonymous_bytes + phase.file_bytes == phase.peak.expected_bytes
        assert phase.peak.low_bytes <= phase.peak.expected_bytes <= phase.peak.high_bytes
        assert phase.anonymous_bytes > 0
        assert set(phase.components) <= set(COMPONENTS)
        assert all(size > 0 for size in phase.components.values())


@pytest.mark.parametrize("phase", STEPS)
def test_a_traced_phase_holds_its_footprint_and_the_process(phase: str) -> None:
    recipe = Recipe()
    found, footprint = phases(recipe)[phase], made_up.footprint(recipe)
    tensors = footprint.peak(phase, shape_of(recipe))
    base = made_up.LIBRARIES
    extra = growth(phase, recipe, footprint.layers, base)
    runtime = base.anonymous_bytes + base.file_bytes + extra.anonymous_bytes + extra.file_bytes
    assert dict(found.components) == {**tensors, "runtime": runtime}


def test_importing_holds_no_tensor() -> None:
    assert set(phases(Recipe())["import"].components) == {"runtime"}


def test_mapped_weights_are_pages_of_their_file_once_they_are_used() -> None:
    found = phases(Recipe())
    assert "weights" not in found["load"].components
    assert found["steady step"].file_bytes - found["wrap"].file_bytes > 2 * made_up.PARAMETERS - 64 * MIB
    assert found["save"].components["weights"] == 2 * made_up.PARAMETERS


@pytest.mark.parametrize(
    "knobs",
    [{"precision": "fp32"}, {"method": "full"}, {"init": "random"}],
    ids=["converted", "trained", "made"],
)
def test_other_weights_are_the_processs_own(knobs: dict[str, Any]) -> None:
    mapped, own = phases(Recipe()), phases(Recipe(**knobs))
    assert own["load"].components["weights"] >= 2 * made_up.PARAMETERS
    grown = own["steady step"].anonymous_bytes - mapped["steady step"].anonymous_bytes
    assert grown >= 2 * made_up.PARAMETERS - MIB


def test_converting_reads_the_whole_file_but_needs_it_only_once() -> None:
    load = phases(Recipe(precision="fp32"))["load"]
    assert load.reclaimable_bytes == FILES.total_bytes
    assert load.required_bytes == load.peak.high_bytes - FILES.total_bytes
    assert phases(Recipe())["load"].reclaimable_bytes == 0
    assert phases(Recipe(init="random", precision="fp32"))["load"].reclaimable_bytes == 0


def test_a_model_made_in_memory_has_two_heads_until_they_are_tied() -> None:
    recipe = Recipe(init="random")
    tied = replace(made_up.footprint(recipe), embedding_bytes=5 * MIB, shared_head=True)
    untied = replace(tied, shared_head=False)
    loads = [phases(recipe, footprint=f)["load"].peak.expected_bytes for f in (tied, untied)]
    assert loads[0] - loads[1] == 5 * MIB


def test_glibcs_default_allocator_needs_more_and_says_so() -> None:
    pinned, default = estimated(Recipe()), estimated(Recipe(allocator="default"))
    assert default.peak.peak.expected_bytes > pinned.peak.peak.expected_bytes
    assert any("allocator" in line for line in default.not_modelled)
    assert not any("allocator" in line for line in pinned.not_modelled)


def test_the_peak_is_the_phase_that_needs_most() -> None:
    found = estimated(Recipe())
    assert found.peak.required_bytes == max(phase.required_bytes for phase in found.phases)


@pytest.mark.parametrize(("over", "fits"), [(0, True), (-1, False)])
def test_it_fits_if_even_the_high_estimate_does(over: int, fits: bool) -> None:
    needed = estimated(Recipe()).peak.required_bytes
    assert estimated(Recipe(), budget_bytes=needed + over).fits is fits


@pytest.mark.parametrize(
    ("knobs", "expected"),
    [
        (
            {"batch_size": 2, "seq_len": 512, "supervised_len": 512},
            Shape(batch=2, seq=512, supervised=1024, chunk=128),
        ),
        (
            {"batch_size": 4, "seq_len": 64, "supervised_len": 9},
            Shape(batch=4, seq=64, supervised=36, chunk=36),
        ),
        ({"batch_size": 1, "seq_len": 8, "supervised_len": 99}, Shape(batch=1, seq=8, supervised=8, chunk=8)),
        (
            {"batch_size": 3, "seq_len": 64, "supervised_len": 9, "pad_to_multiple_of": 16},
            Shape(batch=3, seq=64, supervised=32, chunk=32),
        ),
    ],
)
def test_the_worst_micro_batch(knobs: dict[str, Any], expected: Shape) -> None:
    assert LOSS_CHUNK == 128
    assert shape_of(Recipe(**knobs)) == expected


def test_the_estimate_says_what_it_assumes() -> None:
    def assumed(recipe: Recipe, weights: WeightFiles = FILES) -> str:
        return "; ".join(estimated(recipe, weights).assumptions)

    absent = replace(FILES, format="none", shard_bytes=())
    assert "converted from bfloat16 to float32" in assumed(Recipe(precision="fp32"))
    assert "pages of their file" in assumed(Recipe())
    assert "made in memory" in assumed(Recipe(init="random"))
    assert "no weights at hand" in assumed(Recipe(), absent)
    assert "padding" not in assumed(Recipe(padding="none"))
    assert "q_proj" in assumed(Recipe())


@given(
    batch=st.integers(1, 8),
    seq=st.integers(8, 512),
    more=st.integers(1, 64),
    precision=st.sampled_from(["fp32", "bf16"]),
)
def test_a_larger_batch_never_needs_less(batch: int, seq: int, more: int, precision: Any) -> None:
    def need(batch: int, seq: int) -> int:
        recipe = Recipe(precision=precision, batch_size=batch, seq_len=seq, supervised_len=seq)
        return estimated(recipe).peak.required_bytes

    assert need(batch + more, seq) >= need(batch, seq)
    assert need(batch, seq + more) >= need(batch, seq)
