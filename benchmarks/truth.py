"""Every measurement that we did not make, as recipes: what was run, on what, and what was read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from lplan.planner.recipe import Recipe
from lplan.profiles.named import find_hardware
from lplan.profiles.units import MIB

from .older import READ_TWICE
from .published.fms import a100_rows, kernel_rows
from .published.litgpt import litgpt_hub_rows, litgpt_rows
from .published.others import axolotl_rows, torchtune_rows
from .published.peft import peft_rows
from .published.qwen import qwen_rows
from .published.swift import swift_rows
from .rows import Row, lines


def t4_rows() -> Iterator[Row]:
    """The T4 runs of fitcheck-llm: `scripts/measure.py` of its sdist is the loop that they ran.

    It puts a model that is not quantized on the CPU and then on the GPU, expands grouped keys and values by hand so
    that the efficient kernel takes them ("flash" in its records), does not clip, and holds the outputs in a local.
    """
    gpu = find_hardware("t4").gpus[0]
    for line in lines("t4.jsonl"):
        run, measured = line["run"], line["measured"]
        if line["role"] != "calibration":
            continue
        recipe = Recipe(
            method="lora" if run["quantization"] == "none" else "qlora",
            device="cuda", kernel="efficient", allocator="default", loop="plain",
            quantization=run["quantization"], precision=run["precision"], optimizer=run["optimizer"],
            rank=run["lora_rank"], dropout=0.0, target_modules=tuple(run["lora_targets"]),
            batch_size=run["batch_size"], accumulation=1, seq_len=run["seq_len"], supervised_len=run["seq_len"],
            checkpointing="full" if run["grad_checkpoint"] else "none",
            attention="eager" if run["kernel"] == "eager" else "sdpa", padding="none",
        )  # fmt: skip
        yield Row(
            name=line["run_id"],
            group=f"T4 {'LoRA' if recipe.method == 'lora' else 'QLoRA'} {recipe.attention}",
            model=line["model_id"],
            config=_t4_config(line["config"]),
            recipe=recipe,
            gpu=gpu,
            measured={
                "allocated": round(measured["peak_allocated_mib"] * MIB),
                "reserved": round(measured["peak_reserved_mib"] * MIB),
                "process": round(measured["process_mib"] * MIB),
                "loaded": round(measured["after_load_allocated_mib"] * MIB),
                "forward": round(measured["peak_forward_mib"] * MIB),
                "backward": round(measured["peak_backward_mib"] * MIB),
                "optimizer": round(measured["peak_optimizer_mib"] * MIB),
            },
            step_s=measured["step_seconds"],
            warm_up=recipe.method == "qlora",
            rules=(READ_TWICE,) if recipe.method == "qlora" else (),
            source=line["source"],
        )


def every_row() -> Iterator[Row]:
    """All that are scored, those of the stock stack first."""
    for rows in _SOURCES:
        yield from rows()


_SOURCES = (
    t4_rows, a100_rows, kernel_rows, litgpt_rows, litgpt_hub_rows, peft_rows, qwen_rows, swift_rows,
    torchtune_rows, axolotl_rows,
)  # fmt: skip


def _t4_config(row: Mapping[str, Any]) -> dict[str, Any]:
    config = {
        "model_type": "qwen2" if "Qwen" in row["name"] else "llama",
        "hidden_size": row["hidden_size"],
        "intermediate_size": row["intermediate_size"],
        "num_hidden_layers": row["num_layers"],
        "num_attention_heads": row["num_attention_heads"],
        "num_key_value_heads": row["num_kv_heads"],
        "vocab_size": row["vocab_size"],
        "tie_word_embeddings": row["tie_word_embeddings"],
        "max_position_embeddings": 32768,
    }
    return config if config["model_type"] == "qwen2" else {**config, "head_dim": row["head_dim"]}
