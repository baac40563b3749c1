"""ms-swift's benchmark of January 2024 (scripts/benchmark/test_memory_time): Seq2SeqTrainer on an A100 80 GB.

Samples longer than max_length are left out, batches are padded to their longest: the limit is priced. What was read
is the most that was reserved, over lengths that vary, so with more waste than runs of one length have.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from lplan.planner.kernels import on_gpu
from lplan.planner.recipe import Recipe
from lplan.profiles.named import find_hardware

from ..older import EARLY_FLOAT, SHIFTED, SHIFTED_16_BIT
from ..rows import Row, lines
from .qwen import STAND_IN, qwen_config

_LIMIT = "lengths vary, priced at their limit"


def swift_rows() -> Iterator[Row]:
    """The table of lengths: LoRA of Qwen-7B and Yi-6B. ChatGLM's code has no class in transformers."""
    gpu = find_hardware("a100-80gb").gpus[0]
    for line in lines("published.jsonl"):
        if not _is_scored(line):
            continue
        own = line["model"].startswith("Qwen/")
        config = qwen_config(line["model"]) if own else _YI
        recipe = Recipe(
            method="lora", device="cuda", kernel="flash", allocator="default", attention="flash",
            precision="bf16", rank=line["rank"], dropout=0.05,
            target_modules=tuple(line["target_modules"].replace("c_attn", "q_proj,k_proj,v_proj").split(",")),
            batch_size=line["micro_batch"], accumulation=line["grad_accum"], seq_len=line["seq_len"],
            supervised_len=line["seq_len"], checkpointing="full", padding="none",
        )  # fmt: skip
        yield Row(
            name=line["id"],
            group="A100 LoRA, ms-swift",
            model=line["model"],
            config=config,
            recipe=on_gpu(recipe, gpu, config),
            gpu=gpu,
            measured={"reserved": line["measured_bytes"]},
            rules=(SHIFTED_16_BIT,) if own else (EARLY_FLOAT, SHIFTED),
            differs=f"{STAND_IN}; {_LIMIT}" if own else _LIMIT,
            source=line["source"],
        )


def _is_scored(line: Mapping[str, Any]) -> bool:
    return line["id"].startswith("swift-lora-") and line["num_gpus"] == 1 and "THUDM/" not in line["model"]


_YI: Mapping[str, Any] = {
    # huggingface.co/01-ai/Yi-6B-Chat/blob/main/config.json
    "model_type": "llama", "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32,
    "num_attention_heads": 32, "num_key_value_heads": 4, "vocab_size": 64000, "tie_word_embeddings": False,
    "max_position_embeddings": 4096,
}  # fmt: skip
