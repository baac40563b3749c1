"""Qwen's table "Profiling of Memory and Speed": finetune.py of Qwen (1), every sample padded to the length, A100 80 GB.

The first Qwen's code comes from the hub. Qwen2's class with as many key as query heads has its shapes and biases, with
q, k and v apart where Qwen's c_attn is one linear. The table says "GB" and not which counter: it is taken as the
process in 10**9 bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from lplan.planner.kernels import on_gpu
from lplan.planner.recipe import Recipe
from lplan.profiles.named import find_hardware

from ..older import SHIFTED_16_BIT
from ..rows import Row, lines

STAND_IN = "Qwen's own code, priced as Qwen2's class"
_LINEAR = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def qwen_rows() -> Iterator[Row]:
    """LoRA over bf16, with and without trained embeddings and head. Q-LoRA ran under DeepSpeed's ZeRO-2."""
    gpu = find_hardware("a100-80gb").gpus[0]
    for line in lines("published.jsonl"):
        if "QwenLM/Qwen " not in line["source"] or line["num_gpus"] > 1 or line["method"] != "lora":
            continue
        whole, config = "wte" in line["target_modules"], qwen_config(line["model"])
        recipe = Recipe(
            method="lora", device="cuda", kernel="flash", allocator="default", attention="flash", precision="bf16",
            adapter_dtype="base", rank=line["rank"], dropout=0.05, target_modules=_LINEAR,
            modules_to_save=("embed_tokens", "lm_head") if whole else (), batch_size=line["micro_batch"],
            accumulation=line["grad_accum"], seq_len=line["seq_len"], supervised_len=line["seq_len"],
            checkpointing="full", padding="none",
        )  # fmt: skip
        yield Row(
            name=line["id"],
            group=f"A100 LoRA{' (emb)' if whole else ''}, Qwen's table",
            model=line["model"],
            config=config,
            recipe=on_gpu(recipe, gpu, config),
            gpu=gpu,
            measured={"process": line["measured_bytes"]},
            rules=(SHIFTED_16_BIT,),
            differs=f"{STAND_IN}; counter and unit not told",
            source=line["source"],
        )


def qwen_config(model: str) -> Mapping[str, Any]:
    """Of the model's size (huggingface.co/Qwen/Qwen-7B/blob/main/config.json and its neighbours)."""
    return next(config for size, config in _CONFIGS.items() if f"-{size}" in model)


def _config(width: int, layers: int, heads: int, inner: int, vocabulary: int) -> Mapping[str, Any]:
    return {
        "model_type": "qwen2", "hidden_size": width, "num_hidden_layers": layers, "num_attention_heads": heads,
        "num_key_value_heads": heads, "intermediate_size": inner // 2, "vocab_size": vocabulary,
        "tie_word_embeddings": False, "max_position_embeddings": 32768,
    }  # fmt: skip


_CONFIGS: Mapping[str, Mapping[str, Any]] = {
    "1_8B": _config(2048, 24, 16, 11008, 151936), "7B": _config(4096, 32, 32, 22016, 151936),
    "14B": _config(5120, 40, 40, 27392, 152064),
}  # fmt: skip
