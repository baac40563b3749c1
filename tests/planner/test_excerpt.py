"""One trace of two micro batches a step says what a trace of one would, to the byte."""

from __future__ import annotations

import pytest

from lplan.planner.polynomial import Shape
from lplan.planner.recipe import Recipe
from lplan.planner.tracing.excerpt import brief, single
from lplan.planner.tracing.trace import trace, trace_both
from lplan.planner.tracing.tracker import Segment

from ..tiny_models import TINY_MODELS, with_layers

SHAPE = Shape(batch=2, seq=12, supervised=9, chunk=9)
LAYERS = 7

CASES = {
    "plain": {},
    "checkpointed": {"checkpointing": "full"},
    "every second layer": {"checkpointing": "every-2"},
    "chunked": {"loss": "chunked", "input_casting": False},
    "full fine-tuning": {"method": "full", "optimizer": "adamw-fused"},
    "autocast": {"precision": "bf16-amp"},
    "a GPU": {"device": "cuda", "kernel": "efficient", "precision": "fp16", "allocator": "default"},
    "offloaded": {
        "device": "cuda", "kernel": "efficient", "precision": "fp16", "allocator": "default",
        "offload": ("activations",),
    },
}  # fmt: skip


def settled(footprint):
    """All of it; storages that die together in order (autocast's cache dies as its hash table has it)."""
    data = footprint.to_dict()
    blocks = [
        [*names, Segment("", "", -1, events).settled()] for *names, events in data["stream"].pop("blocks")
    ]
    return data, blocks


@pytest.mark.parametrize("name", CASES)
def test_a_single_micro_batch_is_read_from_a_trace_of_two(name):
    knobs = CASES[name]
    found = trace_both(with_layers("llama", LAYERS), Recipe(accumulation=2, **knobs).graph(), SHAPE)
    direct = trace(with_layers("llama", LAYERS), Recipe(accumulation=1, **knobs).graph(), SHAPE)
    assert found.single is not None
    assert settled(found.single) == settled(direct)
    assert found.footprint != found.single


def test_a_loop_that_holds_outputs_into_the_next_micro_batch_is_traced_anew():
    recipe = Recipe(accumulation=2, loop="plain", clipping=False).graph()
    assert trace_both(TINY_MODELS["llama"], recipe, SHAPE).single is None


def test_a_trace_of_one_says_nothing_more():
    assert trace_both(TINY_MODELS["llama"], Recipe(accumulation=1).graph(), SHAPE).single is None


def segments(*told):
    return [Segment(phase, stage, -1, list(events)) for phase, stage, events in told]


FIRST, STEADY = "first step", "steady step"
STEP = (
    ("load", "load", [1]),
    (FIRST, "batch", [2]), (FIRST, "backward", [3, -2]), (FIRST, "batch", [4]), (FIRST, "backward", [5, -4, -5]),
    (FIRST, "optimizer", [6]), (FIRST, "zero", [-3]),
    (STEADY, "batch", [7]), (STEADY, "backward", [8, -7]), (STEADY, "batch", [9]), (STEADY, "backward", [-9]),
    (STEADY, "optimizer", []), (STEADY, "zero", [-8]),
    ("evaluation", "batch", [10]), ("evaluation", "forward", [-10]),
)  # fmt: skip


def test_the_second_micro_batch_is_left_out_and_what_is_left_is_numbered_anew():
    found = single(segments(*STEP))
    assert [segment.events for segment in found.segments] == [
        [1], [2], [3, -2], [4], [-3], [5], [6, -5], [], [-6], [7], [-7],
    ]  # fmt: skip
    assert found.kept == (0, 1, 2, 5, 6, 7, 9)


def test_in_brief_there_is_no_second_step():
    found = brief(segments(*STEP))
    assert {segment.phase for segment in found.segments} == {"load", FIRST, "evaluation"}
    assert found.kept == (0, 1, 2, 5, 9)


@pytest.mark.parametrize("late", [(FIRST, "optimizer", [6, -4]), (FIRST, "optimizer", [6, 11])])
def test_what_outlives_its_micro_batch_makes_it_no_step_of_its_own(late):
    """Storage 3 of the second one dies later; or storage 10, of the optimizer step, dies in the second one's turn."""
    told = [list(part) for part in STEP]
    told[4][2] = [5, -5] if late[2][1] == -4 else [5, -4, -5]
    told[5] = late
    if late[2][1] == 11:
        told[9] = (STEADY, "batch", [9, -11])
    assert single(segments(*told)) is None
