"""The model as it is trained: adapters, their dtype and casting, checkpointing; and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import TINY_MODELS, VOCABULARY, make_model
from torch import Tensor, nn

from lplan.planner.recipe import ALL_LINEAR, Recipe
from lplan.planner.tracing.adapters import resolve_targets
from lplan.planner.tracing.model import make_config
from lplan.planner.tracing.objective import Objective
from lplan.profiles.errors import LplanError, UsageError

FACTS = json.loads((Path(__file__).parents[1] / "data" / "tinyllama.json").read_text(encoding="utf-8"))


def trainable(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def test_tinyllama_has_the_published_parameters() -> None:
    model = make_model(FACTS["config"], Recipe(method="full"), "meta")
    assert trainable(model) == FACTS["parameters"]


def test_tinyllamas_adapters_on_the_attention() -> None:
    """k and v are 256 wide (grouped queries), so r 8 on q, k, v, o is 0.2 % of the model, not 1.5 %."""
    model = make_model(FACTS["config"], Recipe(rank=8), "meta")
    assert trainable(model) == FACTS["trainable_parameters_r8_qkvo"]


def test_tinyllamas_adapters_on_every_linear() -> None:
    wide, narrow, inner = 2048, 256, 5632
    layer = 2 * (wide + wide) + 2 * (wide + narrow) + 3 * (wide + inner)
    model = make_model(FACTS["config"], Recipe(rank=8, target_modules=ALL_LINEAR), "meta")
    assert trainable(model) == 22 * 8 * layer


@pytest.mark.parametrize(
    ("name", "targets"),
    [
        ("llama", {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj"}),
        ("gpt2", {"attn.c_attn", "attn.c_proj"}),
        ("gpt_neox", {"attention.query_key_value", "attention.dense"}),
        ("bloom", {"self_attention.query_key_value", "self_attention.dense"}),
        ("opt", {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.out_proj"}),
        ("phi", {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.dense"}),
        ("phi3", {"self_attn.qkv_proj", "self_attn.o_proj"}),
    ],
)
def test_attention_means_the_projections_that_a_model_has(name: str, targets: set[str]) -> None:
    base = make_model(TINY_MODELS[name], Recipe(method="full"), "meta")
    assert set(resolve_targets(base, ("attention",))) == targets


@pytest.mark.parametrize(
    ("knobs", "message", "hint"),
    [
        ({"rank": 65}, "rank 65 exceeds the width 64 of .*proj", "at most 64"),
        ({"target_modules": ("c_attn",)}, "target modules c_attn match nothing", "self_attn.q_proj"),
        ({"target_modules": ("input_layernorm",)}, "target modules input_layernorm are refused", "q_proj"),
    ],
)
def test_what_a_model_cannot_have_is_refused(knobs: dict[str, Any], message: str, hint: str) -> None:
    with pytest.raises(UsageError, match=message) as raised:
        make_model(TINY_MODELS["llama"], Recipe(**knobs), "meta")
    assert hint in (raised.value.hint or "")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"model_type": "no-such-model"}, "transformers refuses this config.json"),
        ({}, "transformers refuses this config.json"),
        ({"model_type": "llama", "hidden_size": "wide"}, "transformers refuses this config.json"),
        ({**TINY_MODELS["llama"], "num_attention_heads": 7}, r"transformers refuses|does not build"),
        ({"model_type": "vit"}, "does not build a causal language model"),
    ],
)
def test_a_config_that_is_no_causal_language_model(config: dict[str, Any], message: str) -> None:
    with pytest.raises(LplanError, match=message) as raised:
        make_model(config, Recipe(), "meta")
    assert "\n" not in str(raised.value)
    assert raised.value.hint


def test_a_text_model_inside_a_larger_one_is_taken() -> None:
    text = {key: value for key, value in TINY_MODELS["gemma3_text"].items() if key != "model_type"}
    config = make_config({"model_type": "gemma3", "text_config": text})
    assert (config.model_type, config.hidden_size) == ("gemma3_text", 64)


@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize(
    ("knobs", "dtype"),
    [
        ({"adapter_dtype": "fp32"}, torch.float32),
        ({"adapter_dtype": "base"}, torch.bfloat16),
        ({"adapter_dtype": "base", "precision": "fp32"}, torch.float32),
    ],
)
def test_the_adapters_dtype(knobs: dict[str, Any], dtype: torch.dtype, device: str) -> None:
    model = make_model(TINY_MODELS["llama"], Recipe(**knobs), device)
    assert {p.dtype for p in model.parameters() if p.requires_grad} == {dtype}


def gradients(recipe: Recipe) -> dict[str, Tensor]:
    torch.manual_seed(0)
    model = make_model(TINY_MODELS["llama"], recipe)
    torch.manual_seed(1)
    for name, parameter in model.named_parameters():
        if ".lora_" in name:
            nn.init.normal_(parameter, std=0.05)
    ids = torch.randint(1, VOCABULARY, (3, 20))
    Objective("full")(model, {"input_ids": ids, "labels": ids}).backward()
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def difference(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    """The largest distance of two gradients, relative to their length."""
    assert one.keys() == other.keys()
    return max(((one[n].float() - other[n].float()).norm() / one[n].float().norm()).item() for n in one)


def test_casting_weights_instead_of_inputs_changes_rounding_alone() -> None:
    """Against the gradients in fp32 throughout: within bf16's 2**-8, summed over a few dozen products."""
    casting, not_casting = (gradients(Recipe(dropout=0.0, input_casting=on)) for on in (True, False))
    assert {g.dtype for g in not_casting.values()} == {torch.float32}
    assert difference(casting, not_casting) < 0.05


def test_it_does_less_with_input_casting_off() -> None:
    """No fp32 twin of any input: that is what the knob is for."""
    model = make_model(TINY_MODELS["llama"], Recipe(dropout=0.0, input_casting=False))
    seen: set[torch.dtype] = set()
    for name, module in model.named_modules():
        if name.endswith("lora_A.default"):
            module.register_forward_pre_hook(lambda _m, args: seen.add(args[0].dtype))
    model(input_ids=torch.ones(1, 4, dtype=torch.long))
    assert seen == {torch.bfloat16}


@pytest.mark.parametrize("checkpointing", ["full", "every-2"])
@pytest.mark.parametrize("name", ["llama", "gpt2", "gemma3_text"])
def test_checkpointing_changes_no_gradient(name: str, checkpointing: str) -> None:
    """PEFT over frozen embeddings trains nothing under reentrant checkpointing: every adapter must get its own."""
    plain, recomputed = Recipe(precision="fp32"), Recipe(precision="fp32", checkpointing=checkpointing)
    torch.manual_seed(0)
    found = gradients(recomputed)
    assert all(gradient.abs().sum() > 0 for gradient in found.values())
    assert difference(gradients(plain), found) < 1e-5


def test_caches_are_off_and_the_model_trains() -> None:
    model = make_model(TINY_MODELS["llama"], Recipe())
    assert model.training
    assert model.config.use_cache is False
