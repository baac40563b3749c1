"""The runs of benchmarks/gpu_accuracy.py: model shapes of the catalogue, and recipes that differ in what a GPU does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lplan.planner.recipe import ALL_LINEAR, Recipe
from lplan.profiles.find import find_model


@dataclass(frozen=True, slots=True)
class Case:
    """A catalogue model, perhaps cut to `layers`, and how it is trained."""

    name: str
    model: str
    recipe: Recipe
    layers: int | None = None

    @property
    def config(self) -> dict[str, Any]:
        """config.json's content."""
        config = dict(find_model(self.model).config)
        return config if self.layers is None else {**config, "num_hidden_layers": self.layers}

    @property
    def from_files(self) -> bool:
        """Whether the weights are read from files: what quantizes does so on loading."""
        return self.recipe.init == "pretrained"


def _recipe(knobs: Mapping[str, Any]) -> Recipe:
    knobs = {"batch_size": 2, "seq_len": 512, "accumulation": 1, "padding": "none", **knobs}
    quantized = knobs.get("quantization", "none") != "none"
    length = knobs["seq_len"]
    usual = {
        "device": "cuda", "kernel": "efficient", "allocator": "default", "supervised_len": length,
        "method": "qlora" if quantized else "lora", "init": "pretrained" if quantized else "random",
        "pad_to_multiple_of": length if knobs["padding"] == "padded" else 1,
    }  # fmt: skip
    return Recipe(**{**usual, **knobs})


def _cases(model: str, runs: Mapping[str, Mapping[str, Any]], layers: int | None = None) -> list[Case]:
    shown = model if layers is None else f"{model}/{layers}"
    return [Case(f"{shown} {name}", model, _recipe(knobs), layers) for name, knobs in runs.items()]


_PLAIN: Mapping[str, Any] = {}
_CKPT = {"checkpointing": "full"}
_LONG = {"checkpointing": "full", "batch_size": 8, "seq_len": 1024}
_PADDED = {"padding": "padded", "batch_size": 4, "seq_len": 256}
_FULL = {"method": "full", "precision": "fp32", "checkpointing": "full"}
_NF4 = {"quantization": "nf4"}
_EAGER = {"attention": "eager"}

CASES = (
    *_cases("tinyllama", {
        "lora": _PLAIN, "ckpt": _CKPT, "every-2": {"checkpointing": "every-2"}, "eager": _EAGER,
        "padded 4x256": _PADDED, "8x1024 ckpt": _LONG, "fp32": {"precision": "fp32"}, "fp16": {"precision": "fp16"},
        "bf16-amp": {"precision": "bf16-amp"}, "fp16-amp ckpt": {"precision": "fp16-amp", **_CKPT},
        "accumulation 3": {"accumulation": 3}, "all-linear r64": {"target_modules": ALL_LINEAR, "rank": 64, "alpha": 64},
        "no dropout": {"dropout": 0.0}, "uncast": {"input_casting": False}, "base": {"adapter_dtype": "base"},
        "dora": {"dora": True}, "head saved": {"modules_to_save": ("lm_head",)},
        "supervised padded": {**_PADDED, "loss": "supervised", "supervised_len": 64}, "chunked": {"loss": "chunked"},
        "fused": {"loss": "fused"}, "packed": {"padding": "packed"}, "expandable": {"allocator": "expandable"},
        "full fp32": _FULL, "full bf16": {**_FULL, "precision": "bf16"}, "full bf16-amp": {**_FULL, "precision": "bf16-amp"},
        "full bf16 adamw-fused": {**_FULL, "precision": "bf16", "optimizer": "adamw-fused"},
        "full bf16 adamw-8bit": {**_FULL, "precision": "bf16", "optimizer": "adamw-8bit"},
        "full bf16 paged-adamw-8bit": {**_FULL, "precision": "bf16", "optimizer": "paged-adamw-8bit"},
        "full bf16 adafactor": {**_FULL, "precision": "bf16", "optimizer": "adafactor"},
        "full bf16 lion": {**_FULL, "precision": "bf16", "optimizer": "lion"},
        "full bf16 sgd": {**_FULL, "precision": "bf16", "optimizer": "sgd"},
        "offload activations": {"offload": ("activations",)}, "offload checkpoints": {"offload": ("checkpoints",), **_CKPT},
        "nf4": _NF4, "nf4-dq ckpt": {"quantization": "nf4-dq", **_CKPT}, "int8": {"quantization": "int8"},
        "nf4 unprepared": {**_NF4, "kbit_preparation": False}, "nf4 bf16-amp": {**_NF4, "precision": "bf16-amp"},
        "nf4 8x1024 ckpt": {**_NF4, **_LONG}, "nf4 all-linear paged": {**_NF4, "target_modules": ALL_LINEAR, "optimizer": "paged-adamw-8bit"},
    }),
    *_cases("smollm2-135m", {"lora": _PLAIN, "eager": _EAGER, "8x1024 ckpt": _LONG, "full fp32": _FULL, "nf4": _NF4}),
    *_cases("qwen2.5-0.5b", {
        "lora": _PLAIN, "eager": _EAGER, "4x1024 ckpt chunked": {**_LONG, "batch_size": 4, "loss": "chunked"},
        "full bf16": {**_FULL, "precision": "bf16"}, "padded 4x256": _PADDED, "fused": {"loss": "fused"},
    }),
    *_cases("gemma-3-270m", {"lora": _PLAIN, "eager": _EAGER, "8x1024 ckpt": _LONG}),
    *_cases("llama-3.2-1b", {"2x2048": {"seq_len": 2048}, "nf4 2x1024 ckpt": {**_NF4, **_CKPT, "seq_len": 1024}}),
    *_cases("gpt2", {"lora": _PLAIN, "full fp32": {**_FULL, "checkpointing": "none"}}),
    *_cases("pythia-410m", {"lora": _PLAIN, "padded 4x256": _PADDED}),
    *_cases("bloom-560m", {"lora": _PLAIN}), *_cases("opt-125m", {"padded 4x256": _PADDED}),
    *_cases("qwen3-0.6b", {"lora": _PLAIN}), *_cases("phi-2", {"ckpt": _CKPT}), *_cases("olmo-2-1b", {"lora": _PLAIN}),
    *_cases("gemma-2-2b", {"lora": _PLAIN}),
    *_cases("qwen3-30b-a3b", {"lora": _PLAIN, "ckpt": _CKPT}, layers=4),
    *_cases("mixtral-8x7b", {"lora": _PLAIN}, layers=2), *_cases("gpt-oss-20b", {"eager": _EAGER}, layers=2),
    *_cases("llama-3.1-8b", {"ckpt 1x2048": {**_CKPT, "batch_size": 1, "seq_len": 2048}}),
)  # fmt: skip
TIMED = (
    "tinyllama lora", "tinyllama ckpt", "tinyllama 8x1024 ckpt", "tinyllama fp32", "tinyllama full bf16", "tinyllama eager",
    "smollm2-135m lora", "smollm2-135m 8x1024 ckpt", "qwen2.5-0.5b 4x1024 ckpt chunked", "gemma-3-270m 8x1024 ckpt",
    "llama-3.2-1b 2x2048", "llama-3.1-8b ckpt 1x2048", "tinyllama nf4", "tinyllama nf4 8x1024 ckpt",
)  # fmt: skip
"""Of these the seconds of a step are measured too, one after another."""
HISTORIES = ("tinyllama lora", "tinyllama eager", "tinyllama full bf16", "tinyllama nf4", "tinyllama ckpt")
"""Of these every request to the allocator can be kept, to find what an estimate misses (--histories)."""
