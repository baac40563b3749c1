"""torchao's int8 weights on a CPU: the stand-in against torchao itself where it is installed, and against sums."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import made_up
import pytest
import torch
from tiny_models import TINY_MODELS

from lplan.benchmarks.side_by_side import _RealStep, _WatchingTracker, live_peaks, traced_peaks
from lplan.planner.estimating import Situation, make_estimate, shape_of
from lplan.planner.polynomial import Shape
from lplan.planner.recipe import Recipe
from lplan.planner.tracing.model import wrap
from lplan.planner.tracing.trace import trace
from lplan.profiles.model import WeightFiles
from lplan.profiles.units import GIB
from lplan.trainer.loading import on_the_device

CONFIG = {**TINY_MODELS["llama"], "num_hidden_layers": 2}
WIDE = {**CONFIG, "hidden_size": 1024, "intermediate_size": 2816}
RECIPE = Recipe(
    method="qlora", quantization="int8", target_modules=("all-linear",), accumulation=1, dropout=0.0
)
SHAPE = Shape(batch=2, seq=24, supervised=48, chunk=24)


@pytest.mark.parametrize("checkpointing", ["none", "full"])
@pytest.mark.parametrize("precision", ["fp32", "bf16", "bf16-amp"])
def test_a_real_step_over_torchao_s_weights_has_the_traced_bytes(
    precision: str, checkpointing: str, tmp_path: Path
) -> None:
    """Loaded as the worker loads it."""
    pytest.importorskip("torchao")
    from transformers import AutoConfig, AutoModelForCausalLM

    recipe = replace(RECIPE, precision=precision, checkpointing=checkpointing)
    values = {name: value for name, value in CONFIG.items() if name != "model_type"}
    config = AutoConfig.for_model(CONFIG["model_type"], **values)
    dtype = getattr(torch, recipe.weights_dtype)
    AutoModelForCausalLM.from_config(config, dtype=dtype).save_pretrained(tmp_path)
    base = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=dtype, **on_the_device(recipe))
    model, tracker = wrap(base, recipe), _WatchingTracker(mask_is_full=False)
    _RealStep(model, recipe, SHAPE, tracker).run()
    unseen = _unseen(model, recipe)
    assert unseen
    assert traced_peaks(CONFIG, recipe, SHAPE) == {
        phase: peak + unseen for phase, peak in live_peaks(tracker).items()
    }


def _unseen(model: torch.nn.Module, recipe: Recipe) -> int:
    """What the tracker misses of tensors in a wrapper, less what it counts of the wrapper, which has no memory: zero
    points go into no product, and scales of 16-bit products as a copy alone."""
    weights = [p for p in model.parameters() if hasattr(p, "qdata")]
    missed = sum(w.zero_point.nbytes for w in weights)
    if recipe.precision != "fp32":
        missed += sum(w.scale.nbytes for w in weights)
    return missed - sum(w.untyped_storage().nbytes() for w in weights)


def _weights() -> tuple[int, int, int]:
    """Elements of the quantized linears, their rows, elements of the rest."""
    width, inner = WIDE["hidden_size"], WIDE["intermediate_size"]
    heads = WIDE["num_attention_heads"]
    kv = width // heads * WIDE.get("num_key_value_heads", heads)
    layers = WIDE["num_hidden_layers"]
    quantized = layers * (2 * width * width + 2 * kv * width + 3 * width * inner)
    rows = layers * (2 * width + 2 * kv + 2 * inner + width)
    tied = WIDE.get("tie_word_embeddings", False)
    rest = (1 if tied else 2) * WIDE["vocab_size"] * width + (2 * layers + 1) * width
    return quantized, rows, rest


def test_copies_of_weights_wait_for_backward_unless_layers_are_recomputed() -> None:
    """But those of the first layer's q, k and v: nothing below them is trained. Four tokens leave little else."""
    quantized, _, _ = _weights()
    few, held = Shape(batch=1, seq=4, supervised=4, chunk=4), {}
    for checkpointing in ("none", "full"):
        packed = replace(RECIPE, checkpointing=checkpointing)
        plain = replace(packed, method="lora", quantization="none")
        after, before = (
            trace(WIDE, recipe.graph(), few).peak("steady step", few).get("activations", 0)
            for recipe in (packed, plain)
        )
        held[checkpointing] = after - before
    heads = WIDE["num_key_value_heads"] / WIDE["num_attention_heads"]
    first = WIDE["hidden_size"] ** 2 * (1 + 2 * heads)
    copies = 2 * (quantized - first)
    assert copies <= held["none"] <= 1.02 * copies
    assert held["full"] <= 1.02 * 2 * quantized / WIDE["num_hidden_layers"]


def test_files_stay_mapped_and_only_int8_is_anonymous() -> None:
    quantized, rows, rest = _weights()
    recipe = replace(RECIPE, seq_len=24, supervised_len=24)
    files = WeightFiles(format="safetensors", dtype="bfloat16", total_bytes=2 * (quantized + rest))
    here = Situation(
        model=replace(made_up.MODEL, config=WIDE, weights=files), hardware=made_up.HARDWARE,
        budget=made_up.budget(8 * GIB), baseline=made_up.LIBRARIES, versions={},
    )  # fmt: skip
    phases = {p.name: p for p in make_estimate(recipe, trace(WIDE, recipe, shape_of(recipe)), here).phases}
    packed = quantized + 5 * rows
    assert phases["import"].reclaimable_bytes == 0
    assert phases["wrap"].components["weights"] == pytest.approx(packed, rel=0.01)
    assert phases["load"].components["temporaries"] == 4 * WIDE["hidden_size"] * WIDE["intermediate_size"]
    for name in ("load", "steady step", "save"):
        assert phases[name].reclaimable_bytes == pytest.approx(2 * quantized, rel=0.01)
    step = phases["steady step"]
    assert step.components["weights"] == pytest.approx(packed + 2 * rest, rel=0.01)


def test_an_adapter_over_int8_weights_learns(tmp_path: Path) -> None:
    """lplan's own worker, in a process of its own: quantizes on loading, trains, saves; its step as large as traced."""
    pytest.importorskip("torchao")
    from transformers import AutoConfig, AutoModelForCausalLM

    from lplan.benchmarks.real_run import run

    values = {name: value for name, value in CONFIG.items() if name != "model_type"}
    AutoModelForCausalLM.from_config(
        AutoConfig.for_model(CONFIG["model_type"], **values), dtype=torch.float32
    ).save_pretrained(tmp_path)
    recipe = replace(RECIPE, precision="fp32", seq_len=24, supervised_len=24, padding="none", threads=1)
    measured = run(recipe, CONFIG, model=str(tmp_path), steps=3)
    losses = [step.loss for step in measured.steps]
    assert len(losses) == 3
    assert all(loss > 0 for loss in losses)
    assert {"load", "steady step", "save"} <= set(measured.phases)


@pytest.mark.parametrize(
    ("knobs", "reason"),
    [({"dora": True}, "DoRA"), ({"lora_bias": True}, "bias"), ({"init": "random"}, "made in memory")],
)
def test_what_torchao_s_weights_do_not_go_with(knobs: dict[str, object], reason: str) -> None:
    from lplan.profiles.errors import UsageError

    with pytest.raises(UsageError, match=reason):
        replace(RECIPE, **knobs)  # type: ignore[arg-type]


def test_the_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from lplan.planner import packages
    from lplan.profiles.errors import LplanError

    monkeypatch.setattr(packages, "find_spec", lambda name: None)
    with pytest.raises(LplanError, match="torchao"):
        packages.require_packages(RECIPE)
