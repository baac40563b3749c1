"""Measurements that we did not make, as recipes: each row says what was run, on what, and what was read."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lplan.planner.kernels import on_gpu
from lplan.planner.recipe import Recipe
from lplan.profiles.find import find_model
from lplan.profiles.hardware import Gpu
from lplan.profiles.named import find_hardware
from lplan.profiles.units import MIB

from .older import EARLY_FLOAT, SHIFTED, TRL_CASTS

DATA = Path(__file__).resolve().parents[1] / "tests" / "data"


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One measured run. `measured` has bytes by what was read: allocated, reserved, process, and phases of them."""

    name: str
    group: str
    """Rows of one source, device and method."""
    model: str
    config: Mapping[str, Any]
    recipe: Recipe
    gpu: Gpu
    measured: Mapping[str, int]
    step_s: float | None = None
    warm_up: bool = False
    rules: tuple[str, ...] = ()
    """What its library versions did otherwise than ours (benchmarks.older)."""
    differs: str = ""
    """What its stack is known to do otherwise, and the estimate does not; empty for the stock stack."""
    source: str = field(compare=False, default="")


def t4_rows() -> Iterator[Row]:
    """The T4 runs of fitcheck-llm: `scripts/measure.py` of its sdist is the loop that they ran.

    It puts a model that is not quantized on the CPU and then on the GPU, expands grouped keys and values by hand so
    that the efficient kernel takes them ("flash" in its records), does not clip, and holds the outputs in a local.
    """
    gpu = find_hardware("t4").gpus[0]
    for line in _lines("t4.jsonl"):
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
            source=line["source"],
        )


def a100_rows() -> Iterator[Row]:
    """Runs of the stock Hugging Face stack on an A100: Mistral-7B, packed to 4096 tokens, flash-attention."""
    yield from (row for row in _fms_rows() if not row.differs)


def kernel_rows() -> Iterator[Row]:
    """The same runs with fused kernels (foak, Liger) in place of transformers' own."""
    yield from (row for row in _fms_rows() if row.differs)


def _fms_rows() -> Iterator[Row]:
    gpu = find_hardware("a100-80gb").gpus[0]
    config = find_model("mistral-7b").config
    for line in _lines("published.jsonl"):
        quantization = _QUANTIZATION.get((line["quantization"] or "none").split(",")[0])
        if "fms-acceleration" not in line["source"] or quantization is None:
            continue
        adapts, kernels = line["method"] != "full", line["kernels"] or ""
        recipe = Recipe(
            method=line["method"], device="cuda", kernel="flash", allocator="default", attention="flash",
            precision="bf16-amp" if quantization != "none" and "no autocast" not in line["compute_dtype"] else "bf16",
            quantization=quantization, kbit_preparation="own prepare" not in line["notes"],
            rank=line["rank"] or 8, dropout=line["dropout"] or 0.0,
            target_modules=tuple((line["target_modules"] or "q_proj").replace(" c_attn", "").split()),
            batch_size=line["micro_batch"], accumulation=1, seq_len=line["seq_len"], supervised_len=line["seq_len"],
            checkpointing="full", padding="none",
        )  # fmt: skip
        yield Row(
            name=line["id"],
            group=f"A100 {line['method']}{'' if adapts else ' fine-tuning'}{', fused kernels' if kernels else ''}",
            model=line["model"],
            config=config,
            recipe=on_gpu(recipe, gpu, config),
            gpu=gpu,
            measured={"allocated": line["measured_bytes"]},
            warm_up=quantization != "none",
            rules=_rules(line, recipe),
            differs=kernels,
            source=line["source"],
        )


def litgpt_rows() -> Iterator[Row]:
    """LoRA by litgpt on an A100: its own model code, adapters in bf16 on a fused qkv, chunked loss.

    The length is that of Alpaca's longest sample, to which the first micro batch is padded.
    """
    gpu = find_hardware("a100-40gb").gpus[0]
    for line in _lines("published.jsonl"):
        if not line["id"].startswith("litgpt-tbl"):
            continue
        config = _LITGPT_CONFIGS[line["model"]]
        recipe = Recipe(
            method=line["method"], device="cuda", kernel="flash", allocator="default", precision="bf16",
            quantization=(line["quantization"] or "none").removeprefix("bnb."), kbit_preparation=False,
            adapter_dtype="base", rank=line["rank"], dropout=line["dropout"], target_modules=("q_proj", "v_proj"),
            batch_size=line["micro_batch"], accumulation=2, seq_len=line["seq_len"],
            supervised_len=line["seq_len"], loss="chunked", padding="none", loop="plain",
        )  # fmt: skip
        yield Row(
            name=line["id"],
            group=f"A100 {'LoRA' if line['method'] == 'lora' else 'QLoRA'}, litgpt",
            model=line["model"],
            config=config,
            recipe=on_gpu(recipe, gpu, config),
            gpu=gpu,
            measured={"allocated": line["measured_bytes"]},
            differs="litgpt: own model code, LoRA in a fused qkv with zero padding",
            source=line["source"],
        )


def every_row() -> Iterator[Row]:
    """All that are scored, those of the stock stack first."""
    for rows in (t4_rows, a100_rows, kernel_rows, litgpt_rows):
        yield from rows()


def _rules(line: Mapping[str, Any], recipe: Recipe) -> tuple[str, ...]:
    found = [SHIFTED] if "transformers 4.48" in line["framework"] else [EARLY_FLOAT, SHIFTED]
    if recipe.quantization != "none" and recipe.kbit_preparation:
        found.append(TRL_CASTS)
    return tuple(found)


_LITGPT_CONFIGS: Mapping[str, Mapping[str, Any]] = {
    # huggingface.co/microsoft/phi-1_5/blob/main/config.json
    "microsoft/phi-1_5": {
        "model_type": "phi", "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 24,
        "num_attention_heads": 32, "vocab_size": 51200, "max_position_embeddings": 2048,
        "partial_rotary_factor": 0.5, "resid_pdrop": 0.0, "tie_word_embeddings": False,
    },
    "meta-llama/Llama-2-13b-hf": find_model("llama-2-13b").config,
}  # fmt: skip
_QUANTIZATION = {"none": "none", "bitsandbytes nf4": "nf4-dq"}


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


def _lines(name: str) -> Iterator[dict[str, Any]]:
    with (DATA / name).open(encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)
