"""A few layers tell of many: three units traced and extended, against the whole stack traced."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from tiny_models import traced_peaks, with_layers

from lplan.planner.footprint import Footprint
from lplan.planner.polynomial import Shape
from lplan.planner.recipe import Recipe
from lplan.planner.tracing.trace import trace, trace_whole

SHAPE = Shape(batch=3, seq=37, supervised=80, chunk=32)
ONE = {"accumulation": 1}


def whole(config: Mapping[str, Any], recipe: Recipe) -> Footprint:
    return trace_whole(config, recipe, SHAPE)


def compare(config: Mapping[str, Any], recipe: Recipe) -> Footprint:
    few, all_layers = trace(config, recipe, SHAPE), whole(config, recipe)
    assert few.traced_layers < few.layers == all_layers.traced_layers
    for phase in few.phases:
        assert few.peak(phase, SHAPE) == all_layers.peak(phase, SHAPE), phase
    for count in ("parameters", "trainable_parameters"):
        extended, counted = getattr(few, count), getattr(all_layers, count)
        assert extended.at(SHAPE.values(), few.extra_units) == counted.at(SHAPE.values(), 0)
    return few


@pytest.mark.parametrize("layers", [5, 8, 22])
def test_three_layers_tell_of_any_number(layers: int) -> None:
    assert compare(with_layers("llama", layers), Recipe(**ONE).graph()).traced_layers == 3


@pytest.mark.parametrize(
    ("name", "layers", "knobs"),
    [
        ("llama", 9, {"checkpointing": "full", "loss": "chunked"}),
        ("llama", 11, {"checkpointing": "every-2"}),
        ("llama", 9, {"method": "full"}),
        ("llama", 5, {"precision": "bf16-amp"}),
        ("llama", 5, {"accumulation": 2, "padding": "none"}),
        ("gpt2", 5, {"attention": "eager"}),
        ("falcon", 5, {}),
        ("mixtral", 6, {}),
        ("gemma2", 9, {}),
    ],
)
def test_other_stacks(name: str, layers: int, knobs: dict[str, Any]) -> None:
    compare(with_layers(name, layers), Recipe(**{**ONE, **knobs}).graph())


def test_five_windows_to_one_full_layer() -> None:
    """Gemma 3 1B's 26 layers: four units of six and two over."""
    assert compare(with_layers("gemma3_text", 26), Recipe(**ONE).graph()).traced_layers == 20


def test_work_grows_with_layers_as_when_all_are_traced() -> None:
    """All but the clipped norm, which is stacked from one scalar a parameter and belongs to no layer."""
    config, recipe = with_layers("llama", 8), Recipe(**ONE).graph()
    few, all_layers = trace(config, recipe, SHAPE), whole(config, recipe)
    assert few.work.keys() == all_layers.work.keys()
    for kind, part in few.work.items():
        counted = all_layers.work[kind].at(SHAPE.values(), 0)
        assert part.at(SHAPE.values(), few.extra_units) == pytest.approx(counted, rel=1e-3), kind


def test_a_stack_that_does_not_repeat_is_traced_whole() -> None:
    """DeepSeek V3's first layers are dense and the rest experts, which no list in its configuration says."""
    deepseek = {
        "model_type": "deepseek_v3", "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 4,
        "num_attention_heads": 4, "num_key_value_heads": 4, "vocab_size": 300, "q_lora_rank": 16,
        "kv_lora_rank": 16, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8, "v_head_dim": 16, "n_routed_experts": 4,
        "n_group": 1, "topk_group": 1, "num_experts_per_tok": 2, "moe_intermediate_size": 32,
        "first_k_dense_replace": 1,
    }  # fmt: skip
    recipe = Recipe(**ONE).graph()
    found = trace(deepseek, recipe, SHAPE)
    assert (found.traced_layers, found.extra_units) == (4, 0)
    direct = traced_peaks(deepseek, recipe, SHAPE)
    assert {phase: sum(found.peak(phase, SHAPE).values()) for phase in direct} == direct
