"""The step that is traced, run for real beside it: with real tensors the same storages must be alive."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tiny_models import TINY_MODELS, real_peaks, traced_peaks

from lplan.planner.polynomial import Shape
from lplan.planner.recipe import ALL_LINEAR, Recipe
from lplan.planner.tracing import step
from lplan.planner.tracing import trace as tracing
from lplan.planner.tracing.autocast import autocast_of_meta
from lplan.planner.tracing.device import STAND_INS

SHAPE = Shape(batch=3, seq=48, supervised=100, chunk=32)
MOSTLY_ATTENTION = Shape(batch=2, seq=400, supervised=100, chunk=32)
BEYOND_THE_WINDOW = Shape(batch=2, seq=80, supervised=100, chunk=32)

INDEX_BYTES = {"falcon": 32}
"""Python lists used as indices become tensors of 8 bytes on a CPU, and nothing on meta."""

RECIPES: dict[str, dict[str, Any]] = {
    "padded": {},
    "equally long": {"padding": "none"},
    "fp32": {"precision": "fp32"},
    "autocast": {"precision": "bf16-amp"},
    "autocast, equally long": {"precision": "bf16-amp", "padding": "none"},
    "autocast, packed": {"precision": "bf16-amp", "padding": "packed"},
    "checkpointing": {"checkpointing": "full"},
    "every second checkpointed": {"checkpointing": "every-2"},
    "supervised": {"loss": "supervised"},
    "chunked": {"loss": "chunked"},
    "no input casting": {"input_casting": False},
    "bf16 adapters": {"adapter_dtype": "base"},
    "no dropout": {"dropout": 0.0},
    "all linear": {"target_modules": ALL_LINEAR},
    "eager": {"attention": "eager"},
    "full": {"method": "full", "accumulation": 1},
    "full autocast": {"method": "full", "precision": "bf16-amp", "checkpointing": "full", "loss": "chunked"},
    "sgd": {"optimizer": "sgd", "accumulation": 1},
    "sgd with momentum": {"optimizer": "sgd-momentum", "accumulation": 1},
    "adafactor": {"optimizer": "adafactor", "accumulation": 1},
    "unclipped": {"method": "full", "clipping": False, "accumulation": 1},
}


def trained(model: torch.nn.Module) -> list[torch.nn.Parameter]:
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def compare(name: str, recipe: Recipe, shape: Shape = SHAPE) -> None:
    traced, real = (
        traced_peaks(TINY_MODELS[name], recipe, shape),
        real_peaks(TINY_MODELS[name], recipe, shape),
    )
    missing = {phase: real[phase] - traced[phase] for phase in real}
    assert all(0 <= size <= INDEX_BYTES.get(name, 0) for size in missing.values()), missing


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_of_a_llama(recipe: str) -> None:
    compare("llama", Recipe(**RECIPES[recipe]).graph())


@pytest.mark.parametrize("name", [name for name in TINY_MODELS if name != "llama"])
def test_every_architecture(name: str) -> None:
    compare(name, Recipe().graph())


@pytest.mark.parametrize(
    ("name", "recipe"),
    [
        ("gpt2", "full"),
        ("gpt2", "autocast"),
        ("gpt_neox", "checkpointing"),
        ("opt", "no input casting"),
        ("bloom", "chunked"),
        ("phi", "all linear"),
        ("gemma2", "eager"),
        ("gemma3_text", "every second checkpointed"),
        ("gemma3_text", "full autocast"),
        ("mixtral", "fp32"),
        ("mixtral", "autocast"),
        ("qwen3", "supervised"),
        ("olmo2", "bf16 adapters"),
    ],
)
def test_recipes_of_other_architectures(name: str, recipe: str) -> None:
    compare(name, Recipe(**RECIPES[recipe]).graph())


@pytest.mark.parametrize("method", ["lora", "full"])
def test_the_fused_optimizer_makes_nothing_but_its_states(
    monkeypatch: pytest.MonkeyPatch, method: Any
) -> None:
    """The trace makes the states alone: torch's fused kernel has no meta implementation."""
    recipe = Recipe(method=method, optimizer="adamw-fused", accumulation=1).graph()
    traced = traced_peaks(TINY_MODELS["llama"], recipe, SHAPE)
    monkeypatch.setattr(
        step, "make_optimizer", lambda model, _: torch.optim.AdamW(trained(model), fused=True)
    )
    assert real_peaks(TINY_MODELS["llama"], recipe, SHAPE) == traced


@pytest.mark.parametrize("padding", ["padded", "none"])
@pytest.mark.parametrize("name", ["mistral", "gemma3_text"])
def test_sequences_longer_than_the_window(name: str, padding: Any) -> None:
    compare(name, Recipe(padding=padding, accumulation=1).graph(), BEYOND_THE_WINDOW)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_attention_under_autocast(attention: Any) -> None:
    """GPT-2's attention drops out: products and softmax one by one, in fp32 within one op (attention.cpp)."""
    recipe = Recipe(precision="bf16-amp", attention=attention, accumulation=1).graph()
    compare("gpt2", recipe, MOSTLY_ATTENTION)


@pytest.mark.parametrize("precision", ["bf16", "bf16-amp"])
@pytest.mark.parametrize("padding", ["padded", "none", "packed"])
@pytest.mark.parametrize("name", ["llama", "gpt2", "mixtral"])
def test_both_stand_ins_show_the_same(name: str, padding: Any, precision: Any) -> None:
    config, recipe = TINY_MODELS[name], Recipe(padding=padding, precision=precision, accumulation=1).graph()
    assert traced_peaks(config, recipe, SHAPE, "fake") == traced_peaks(config, recipe, SHAPE, "meta")


@pytest.mark.parametrize("precision", ["bf16", "bf16-amp"])
@pytest.mark.parametrize("name", ["llama", "mixtral"])
def test_both_stand_ins_count_the_same_work(
    name: str, precision: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fake tensors ask where they are by dispatched ops, which no device runs."""
    recipe, work = Recipe(padding="none", precision=precision).graph(), []
    for stand_in in STAND_INS:
        monkeypatch.setattr(tracing, "STAND_INS", (stand_in,))
        work.append(tracing.trace(TINY_MODELS[name], recipe, SHAPE).work)
    assert work[0] == work[1]


def test_what_autocast_does_with_an_op_is_known_or_refused() -> None:
    """Fourier transforms are cast on a CPU, and no model is known to train with them: fake tensors have to show it."""
    signal = torch.empty(8, 16, device="meta", dtype=torch.bfloat16)
    with autocast_of_meta("cpu"), torch.autocast("cpu"):
        assert (signal.float() @ signal.T.float()).dtype == torch.bfloat16
        with pytest.raises(NotImplementedError, match="fft_rfft"):
            torch.fft.rfft(signal)
    assert (signal.float() @ signal.T.float()).dtype == torch.float32


def test_the_cpus_kernels_are_gone_after_a_trace() -> None:
    """torch's own meta kernel makes fp32 statistics; the replacement that a trace needs must not stay."""
    traced_peaks(TINY_MODELS["gpt2"], Recipe(accumulation=1).graph(), SHAPE)
    hidden, weight = torch.empty(2, 8, device="meta").bfloat16(), torch.empty(8, device="meta").bfloat16()
    _, mean, _ = torch.native_layer_norm(hidden, [8], weight, weight, 1e-5)
    assert mean.dtype == torch.float32
