"""A step drawn over its events agrees with the footprint's peaks, which are found another way."""

from __future__ import annotations

import pytest
from tiny_models import with_layers

from lplan.planner.estimating import shape_of
from lplan.planner.footprint import footprint_from_dict
from lplan.planner.recipe import Recipe
from lplan.planner.timeline import timeline
from lplan.planner.tracing.trace import trace

ON_CUDA = {"device": "cuda", "kernel": "efficient", "allocator": "default", "precision": "fp16"}


@pytest.mark.parametrize("knobs", [{}, {"checkpointing": "full"}, ON_CUDA], ids=["cpu", "recomputed", "cuda"])
@pytest.mark.parametrize("layers", [3, 9])
def test_its_peak_is_the_steady_steps(knobs, layers):
    recipe = Recipe(batch_size=3, seq_len=40, supervised_len=40, **knobs)
    shape = shape_of(recipe)
    found = trace(with_layers("llama", layers), recipe, shape)
    drawn = timeline(found, shape, 100)
    assert drawn.peak_bytes == sum(found.peak("steady step", shape).values())
    assert 0 < drawn.resident_bytes < drawn.peak_bytes
    assert len(drawn.moments) <= 100
    stages = [moment.stage for moment in drawn.moments]
    assert stages.index("forward") < stages.index("backward") < stages.index("optimizer")
    assert timeline(footprint_from_dict(found.to_dict()), shape, 100) == drawn
