"""PEFT's method comparison (method_comparison/MetaMathQA): Llama-3.2-3B in bf16 on an L40S, a plain loop.

Batches of four are padded to their longest, at most 768 tokens; how long the longest was is not told, so the limit is
priced. What was read is the most that was reserved in the whole run; until November 2025 the cache was emptied after
every step, and after every tenth since.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from lplan.planner.kernels import on_gpu
from lplan.planner.recipe import Recipe
from lplan.profiles.find import find_model
from lplan.profiles.named import find_hardware

from ..rows import Row, lines

_LORA = {"lora", "dora", "rslora", "full"}


def peft_rows() -> Iterator[Row]:
    """LoRA in its kinds and full fine-tuning; not PEFT's other methods, which lplan does not offer."""
    gpu, config = find_hardware("l40s").gpus[0], find_model("llama-3.2-3b").config
    for line in (*lines("published.jsonl"), *lines("metamathqa.jsonl")):
        if "metamath" not in line["id"] or line["method"] not in _LORA:
            continue
        recipe = Recipe(
            method="full" if line["method"] == "full" else "lora", device="cuda", kernel="efficient",
            allocator="default", attention="sdpa", precision="bf16", rank=line["rank"] or 8, dropout=0.0,
            dora=line["method"] == "dora", rslora=line["method"] == "rslora", target_modules=_targets(line),
            batch_size=line["micro_batch"], accumulation=1, seq_len=line["seq_len"], supervised_len=line["seq_len"],
            checkpointing="none", padding="padded", loop="plain",
        )  # fmt: skip
        yield Row(
            name=line["id"],
            group=f"L40S {'full fine-tuning' if line['method'] == 'full' else 'LoRA'}, PEFT's comparison",
            model=line["model"],
            config=config,
            recipe=on_gpu(recipe, gpu, config),
            gpu=gpu,
            measured={"reserved": line["measured_bytes"]},
            clears="2025" in line["id"],
            differs="lengths vary, priced at their limit",
            source=line["source"],
        )


def _targets(line: Mapping[str, Any]) -> tuple[str, ...]:
    words = line["target_modules"] or "q_proj"
    listed = words.strip("[]").replace("'", "").split(",") if isinstance(words, str) else words
    return tuple(sorted(word.strip() for word in listed))
