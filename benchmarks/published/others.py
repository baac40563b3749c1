"""torchtune's and axolotl's own figures: other kernels and losses, and counters that they don't name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from lplan.planner.kernels import on_gpu
from lplan.planner.recipe import Recipe
from lplan.profiles.find import find_model
from lplan.profiles.named import find_hardware

from ..rows import Row, lines

_LINEAR = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def torchtune_rows() -> Iterator[Row]:
    """LoRA and QLoRA of Llama-3.1-8B on an RTX 4090 by the recipes' defaults (README of September 2024), compiled.

    Its other card's rows don't say whether activations were checkpointed; its full fine-tuning steps its optimizer in
    the backward pass, which no recipe here says.
    """
    gpu, config = find_hardware("rtx-4090").gpus[0], find_model("llama-3.1-8b").config
    for line in lines("published.jsonl"):
        if (
            not line["id"].startswith("torchtune-readme")
            or not line["rank"]
            or not line["gradient_checkpointing"]
        ):
            continue
        quantized = line["method"] == "qlora"
        recipe = Recipe(
            method=line["method"], device="cuda", kernel="flash", allocator="default", precision="bf16",
            quantization="nf4-dq" if quantized else "none", kbit_preparation=False, adapter_dtype="base",
            rank=line["rank"], dropout=0.0, target_modules=_LINEAR if quantized else ("q_proj", "v_proj"),
            batch_size=line["micro_batch"], accumulation=line["grad_accum"], seq_len=line["seq_len"],
            supervised_len=line["seq_len"], loss="chunked", checkpointing="full", padding="none", loop="plain",
        )  # fmt: skip
        yield _row(line, recipe, config, gpu, "RTX 4090 LoRA, torchtune", "torchtune: own code, compiled")


def axolotl_rows() -> Iterator[Row]:
    """QLoRA by the examples' files, "uses about": packed rows, cut cross entropy, 8-bit AdamW."""
    gpu = find_hardware("a100-80gb").gpus[0]
    for line in lines("published.jsonl"):
        if "axolotl" not in line["source"]:
            continue
        recipe = Recipe(
            method="qlora", device="cuda", kernel="flash", allocator="default", attention="flash",
            precision="bf16-amp", quantization="nf4-dq", rank=line["rank"], dropout=0.0, target_modules=_LINEAR,
            batch_size=line["micro_batch"], accumulation=line["grad_accum"], seq_len=line["seq_len"],
            supervised_len=line["seq_len"], loss="fused", checkpointing="full", optimizer="adamw-8bit",
            padding="none",
        )  # fmt: skip
        config = _AXOLOTL[line["model"]]
        yield _row(
            line, recipe, config, gpu, "QLoRA, axolotl", "axolotl: cut cross entropy; device not named"
        )


def _row(
    line: Mapping[str, Any], recipe: Recipe, config: Mapping[str, Any], gpu: Any, group: str, differs: str
) -> Row:
    return Row(
        name=line["id"],
        group=group,
        model=line["model"],
        config=config,
        recipe=on_gpu(recipe, gpu, config),
        gpu=gpu,
        measured={"reserved": line["measured_bytes"]},
        warm_up=recipe.quantization != "none",
        differs=f"{differs}; counter not told",
        source=line["source"],
    )


def _mistral(width: int, layers: int, inner: int) -> Mapping[str, Any]:
    return {
        "model_type": "mistral", "hidden_size": width, "intermediate_size": inner, "num_hidden_layers": layers,
        "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 131072,
        "tie_word_embeddings": False, "max_position_embeddings": 32768, "sliding_window": None,
    }  # fmt: skip


_AXOLOTL: Mapping[str, Mapping[str, Any]] = {
    # config.json of each name on huggingface.co; Plano-Orchestrator-4B is a Qwen3-4B
    "mistralai/Ministral-8B-Instruct-2410": _mistral(4096, 36, 12288),
    "mistralai/Magistral-Small-2506": _mistral(5120, 40, 32768),
    "katanemo/Plano-Orchestrator-4B": find_model("qwen3-4b").config,
    "ByteDance-Seed/Seed-OSS-36B-Instruct": {
        "model_type": "seed_oss", "hidden_size": 5120, "intermediate_size": 27648, "num_hidden_layers": 64,
        "num_attention_heads": 80, "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 155136,
        "tie_word_embeddings": False, "attention_bias": True, "attention_out_bias": False,
    },
}  # fmt: skip
