"""What is supposed of a graph that was not traced is no more than what its trace says."""

from __future__ import annotations

from functools import cache
from itertools import permutations

import pytest

from lplan.planner.bounds import LeastBytes, layers_alone, recomputed
from lplan.planner.polynomial import Shape, evaluate
from lplan.planner.recipe import Recipe
from lplan.planner.tracing.trace import trace

from .. import made_up
from ..tiny_models import with_layers

SHAPE = Shape(batch=2, seq=12, supervised=9, chunk=9)
LAYERS = 12
LOSSES = ("full", "supervised", "chunked")
OTHER_LOSSES = ("full", "chunked")
SITUATION = made_up.task().situation


@cache
def traced(checkpointing, loss):
    recipe = Recipe(accumulation=1, checkpointing=checkpointing, loss=loss).graph()
    return trace(with_layers("llama", LAYERS), recipe, SHAPE)


def amounts(footprint):
    values = SHAPE.values()
    return {
        name: evaluate(part.whole(footprint.extra_units), values) for name, part in footprint.work.items()
    }


@pytest.mark.parametrize("checkpointing", ["none", "full", "every-2"])
@pytest.mark.parametrize(("loss", "other"), permutations(LOSSES, 2))
def test_what_layers_do_and_hold_is_no_more_than_what_is_traced_under_another_loss(
    checkpointing, loss, other
):
    recipe = Recipe(accumulation=1, checkpointing=checkpointing, loss=loss)
    exact, layers = traced(checkpointing, loss), layers_alone(traced(checkpointing, other))
    work = amounts(exact)
    assert all(work[name] >= amount for name, amount in amounts(layers).items())
    supposed, least = (LeastBytes(recipe, one, SITUATION).at(SHAPE.values()) for one in (layers, exact))
    assert 0.5 * least < supposed <= least


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
