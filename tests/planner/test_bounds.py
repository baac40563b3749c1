"""What is supposed of a graph that was not traced is no more than what its trace says."""

from __future__ import annotations

from functools import cache

import pytest

from lplan.planner.bounds import recomputed
from lplan.planner.polynomial import Shape, evaluate
from lplan.planner.recipe import Recipe
from lplan.planner.tracing.trace import trace

from ..tiny_models import with_layers

SHAPE = Shape(batch=2, seq=12, supervised=9, chunk=9)
LAYERS = 12
OTHER_LOSSES = ("full", "chunked")


@cache
def traced(checkpointing, loss):
    recipe = Recipe(accumulation=1, checkpointing=checkpointing, loss=loss).graph()
    return trace(with_layers("llama", LAYERS), recipe, SHAPE)


def amounts(footprint):
    values = SHAPE.values()
    return {
        name: evaluate(part.whole(footprint.extra_units), values) for name, part in footprint.work.items()
    }


@pytest.mark.parametrize("checkpointing", ["full", "every-2"])
@pytest.mark.parametrize("other", [None, *OTHER_LOSSES])
def test_work_that_is_supposed_is_no_more_than_what_is_traced(checkpointing, other):
    recipe = Recipe(accumulation=1, checkpointing=checkpointing, loss="supervised")
    plain, exact = traced("none", "supervised"), amounts(traced(checkpointing, "supervised"))
    alike = None if other is None else (traced(checkpointing, other), traced("none", other))
    supposed = amounts(recomputed(recipe, plain, alike))
    assert all(supposed[name] <= exact[name] for name in supposed)
    if other is not None:
        # The layers do the same again under every loss.
        assert supposed == exact
