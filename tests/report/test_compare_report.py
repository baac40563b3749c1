"""Ways to train as people see them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lplan.planner.compare import Way
from lplan.profiles.units import GIB, MIB
from lplan.report.compare import compare_view

LORA = Way(
    name="LoRA r 8", means="a small adapter", take_when="usual", peak_bytes=6 * GIB, fits=True,
    weights_bytes=2 * GIB, state_bytes=36 * MIB, rest_bytes=4 * GIB - 36 * MIB,
    components={
        "weights": 2 * GIB, "adapters": 9 * MIB, "gradients": 9 * MIB, "optimizer": 18 * MIB,
        "activations": 3 * GIB, "logits and loss": 512 * MIB, "runtime": 512 * MIB - 36 * MIB,
    },
    trainable_parameters=2_252_800, saved_bytes=9_011_200, checkpoint_bytes=27_033_600,
    step_s=2.5, total_s=4310.0, cost=0.42,
)  # fmt: skip
FULL = replace(
    LORA, name="from scratch", means="random weights", take_when="never", peak_bytes=21 * GIB, fits=False,
    components={"weights": 4 * GIB, "gradients": 4 * GIB, "optimizer": 8 * GIB, "activations": 5 * GIB},
    trainable_parameters=1_100_048_384, saved_bytes=4_400_193_536, checkpoint_bytes=13_200_580_608, total_s=99_000.0,
    cost=9.63,
)  # fmt: skip


@pytest.mark.parametrize("width", [80, 120])
def test_golden_compare(golden, render, width):
    golden(f"compare_{width}", render(compare_view("a model", [FULL, LORA], 8 * GIB), width=width))


def test_without_a_price_there_is_no_cost(render):
    ways = [replace(way, cost=None) for way in (FULL, LORA)]
    assert "cost" not in render(compare_view("a model", ways, 8 * GIB))


def test_without_a_length_of_the_run_a_step_is_told_and_no_cost(render):
    shown = render(compare_view("a model", [FULL, LORA], 8 * GIB, whole_run=False))
    assert "a step" in shown
    assert "2.5 s" in shown
    assert "in all" not in shown
    assert "0.42" not in shown
