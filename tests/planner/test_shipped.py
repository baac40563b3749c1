"""The footprints that the package carries are what a trace with these versions finds."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lplan.planner.estimating import shape_of
from lplan.planner.recipe import Recipe
from lplan.planner.store import FootprintStore
from lplan.planner.tracer import _trace
from lplan.profiles.find import find_model

USUAL = Recipe(seq_len=512, supervised_len=512)


@pytest.mark.parametrize("alias", ["smollm2-135m", "gpt2"])
def test_shipped_is_what_a_tracing_process_finds(alias, tmp_path):
    model, store = find_model(alias), FootprintStore(tmp_path)
    requests = [(r, shape_of(r)) for r in (USUAL, replace(USUAL, checkpointing="full"))]
    shipped = [store.find(model.config, recipe, shape) for recipe, shape in requests]
    assert None not in shipped, "run `make footprints`"
    assert shipped == [footprint for _, footprint in _trace(model, requests, store)]


def test_a_catalogue_model_needs_no_trace(tmp_path):
    recipe = replace(USUAL, alpha=32, batch_size=7, seq_len=333, supervised_len=333)
    assert FootprintStore(tmp_path).find(find_model("tinyllama").config, recipe, shape_of(recipe)) is not None
