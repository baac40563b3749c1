"""Liger's fused loss: its own rule for chunks, and what its traced stand-in holds, against sums made by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tiny_models import with_layers

from lplan.planner.estimating import shape_of
from lplan.planner.footprint import Footprint
from lplan.planner.kernels import on_gpu
from lplan.planner.packages import require_packages
from lplan.planner.polynomial import Shape
from lplan.planner.recipe import Recipe
from lplan.planner.tracing.trace import trace, trace_whole
from lplan.profiles.errors import LplanError, UsageError
from lplan.profiles.named import find_hardware

VOCABULARY, HIDDEN = 8192, 128
CONFIG = {**with_layers("llama", 9), "vocab_size": VOCABULARY, "hidden_size": HIDDEN}
SHAPE = Shape(batch=3, seq=37, supervised=111, chunk=32)
ON_GPU: dict[str, Any] = {"device": "cuda", "kernel": "efficient", "allocator": "default", "accumulation": 1}


def fused(**knobs: Any) -> Recipe:
    return Recipe(**{**ON_GPU, "loss": "fused", **knobs}).graph()


def live(footprint: Footprint, phase: str = "steady step", **shape: int) -> int:
    return sum(footprint.peak(phase, replace(SHAPE, **shape)).values())


@pytest.mark.parametrize(
    ("batch", "seq", "vocabulary", "hidden", "rows"),
    [
        (4, 4096, 32_000, 4096, 2048),  # the example in the comment of Liger's own source
        (1, 1000, 128_256, 4096, 32),  # ceil(1000 / 32) = 32
        (1, 3, 100, 200, 3),  # never more rows than there are
    ],
)
def test_ligers_chunks(batch: int, seq: int, vocabulary: int, hidden: int, rows: int) -> None:
    config = {"vocab_size": vocabulary, "hidden_size": hidden, "num_attention_heads": 8}
    recipe = Recipe(**ON_GPU, loss="fused", batch_size=batch, seq_len=seq, supervised_len=1)
    gpu = find_hardware("a100-80gb").gpus[0]
    assert shape_of(on_gpu(recipe, gpu, config)).chunk == rows


def test_two_chunks_of_logits_exist_at_once() -> None:
    footprint = trace(CONFIG, fused(), SHAPE)
    for phase in ("steady step", "evaluation"):
        assert live(footprint, phase, chunk=64) - live(footprint, phase) == 2 * 32 * VOCABULARY * 2


def test_a_trained_head_has_its_gradient_from_the_forward_pass_on() -> None:
    """In bf16 with a product in bf16 and its fp32 copy beside it, while one chunk is left."""
    found = trace(CONFIG, fused(method="full", optimizer="sgd", clipping=False), SHAPE)
    held = VOCABULARY * HIDDEN * (2 + 4) + 32 * VOCABULARY * 2
    rows = SHAPE.batch * SHAPE.seq * HIDDEN
    peak = found.peak("steady step", SHAPE)
    assert held < peak["logits and loss"] < held + 16 * rows
    assert peak["gradients"] >= VOCABULARY * HIDDEN * 2


@pytest.mark.parametrize("method", ["lora", "full"])
def test_it_computes_what_the_full_loss_does(method: Any) -> None:
    ours, full = (trace(CONFIG, fused(method=method, loss=loss), SHAPE) for loss in ("fused", "full"))
    name = "micro matmul bfloat16"
    assert ours.work[name].at(SHAPE.values(), 0) == full.work[name].at(SHAPE.values(), 0)


@pytest.mark.parametrize(
    "knobs", [{}, {"method": "full", "precision": "bf16-amp"}, {"modules_to_save": ("lm_head",)}]
)
def test_a_few_layers_tell_of_many_under_the_fused_loss(knobs: dict[str, Any]) -> None:
    few, whole = trace(CONFIG, fused(**knobs), SHAPE), trace_whole(CONFIG, fused(**knobs), SHAPE)
    assert few.traced_layers < 9
    assert {phase: few.peak(phase, SHAPE) for phase in whole.phases} == {
        phase: whole.peak(phase, SHAPE) for phase in whole.phases
    }


def test_adapters_on_the_head_would_be_passed_over() -> None:
    with pytest.raises(UsageError, match="past adapters"):
        trace(CONFIG, fused(target_modules=("q_proj", "lm_head")), SHAPE)


def test_what_the_fused_loss_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="Triton kernel of Liger's"):
        Recipe(loss="fused")
    monkeypatch.setattr("lplan.planner.packages.stack_versions", lambda: {"torch": "2.13.0"})
    with pytest.raises(LplanError, match="liger-kernel"):
        require_packages(fused())
