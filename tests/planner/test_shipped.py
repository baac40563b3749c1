"""The footprints that the package carries are what a trace with these versions finds."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lplan.planner.estimating import shape_of
from lplan.planner.recipe import Recipe
from lplan.planner.store import FootprintStore
from lplan.planner.tracing.trace import trace
from lplan.profiles.find import find_model

USUAL = Recipe(seq_len=512, supervised_len=512)


@pytest.mark.parametrize("alias", ["smollm2-135m", "gpt2"])
@pytest.mark.parametrize("checkpointing", ["none", "full"])
def test_shipped_is_what_is_traced(alias, checkpointing, tmp_path):
    recipe = replace(USUAL, checkpointing=checkpointing)
    config = find_model(alias).config
    shipped = FootprintStore(tmp_path).find(config, recipe, shape_of(recipe))
    assert shipped is not None, "run `make footprints`"
    traced = trace(config, recipe, shape_of(recipe))
    shape = shape_of(replace(recipe, batch_size=3, seq_len=200, supervised_len=100))
    for phase in ("first step", "steady step", "evaluation"):
        assert shipped.peak(phase, shape) == traced.peak(phase, shape)
    assert shipped.work == traced.work
    assert shipped.parameters == traced.parameters


def test_a_catalogue_model_needs_no_trace(tmp_path):
    recipe = replace(USUAL, alpha=32, batch_size=7, seq_len=333, supervised_len=333)
    assert FootprintStore(tmp_path).find(find_model("tinyllama").config, recipe, shape_of(recipe)) is not None
