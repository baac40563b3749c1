"""Products take the rate of the rows that they have: the output head's are supervised tokens, or a chunk of them."""

from __future__ import annotations

from dataclasses import replace

import made_up
import pytest

from lplan.planner.footprint import Linear
from lplan.planner.polynomial import Shape, plus, term
from lplan.planner.rates import Rates
from lplan.planner.recipe import LOSS_CHUNK, Loss, Recipe
from lplan.planner.timing import StepClock

BODY_FLOP, HEAD_FLOP = 10**9, 10**8
"""For every token, and for every supervised one."""
RATES = Rates(
    matmul_flop_per_s={"bfloat16": {512: {128: 1e11, 1024: 4e11}}},
    traffic_bytes_per_s=1e10,
    random_elements_per_s=1e8,
    op_s=0.0,
)


def seconds(loss: Loss, supervised: int, products: int) -> float:
    """A step of 8 x 128 tokens whose head makes so many products of its rows."""
    amount = plus(term("BS", BODY_FLOP), term("N", products * HEAD_FLOP))
    graph = replace(made_up.footprint(Recipe(loss=loss)), work={"micro matmul bfloat16": Linear(amount)})
    shape = Shape(batch=8, seq=128, supervised=supervised, chunk=min(LOSS_CHUNK, supervised))
    return StepClock(graph, RATES, 64, loss).step_s(shape.values(), 1)


@pytest.mark.parametrize("supervised", [128, 512, 1024])
def test_the_head_has_fewer_rows_than_the_body(supervised: int) -> None:
    body_s = 1024 * BODY_FLOP / 4e11
    head_s = supervised * 2 * HEAD_FLOP / {128: 1e11, 512: 3e11, 1024: 4e11}[supervised]
    assert seconds("supervised", supervised, 2) == pytest.approx(body_s + head_s)


@pytest.mark.parametrize("supervised", [128, 512, 1024])
def test_a_chunk_of_the_head_waits_for_its_weights_each_time(supervised: int) -> None:
    body_s, head_s = 1024 * BODY_FLOP / 4e11, supervised * 3 * HEAD_FLOP / 1e11
    assert seconds("chunked", supervised, 3) == pytest.approx(body_s + head_s)


def test_the_optimizers_products_have_no_head() -> None:
    graph = made_up.footprint(Recipe())
    graph = replace(graph, work={"optimizer matmul bfloat16": Linear(term("1", 10**12))})
    values = Shape(batch=8, seq=128, supervised=128, chunk=128).values()
    assert StepClock(graph, RATES, 64, "chunked").step_s(values, 4) == pytest.approx(10**12 / 4e11)
