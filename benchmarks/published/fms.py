"""fms-acceleration's benchmarks: Mistral-7B on an A100, packed to 4096 tokens, flash-attention, byte-exact."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from lplan.planner.kernels import on_gpu
from lplan.planner.recipe import Recipe
from lplan.profiles.find import find_model
from lplan.profiles.named import find_hardware

from ..older import EARLY_FLOAT, SHIFTED, TRL_CASTS
from ..rows import Row, lines


def a100_rows() -> Iterator[Row]:
    """Runs of the stock Hugging Face stack."""
    yield from (row for row in _rows() if not row.differs)


def kernel_rows() -> Iterator[Row]:
    """The same runs with fused kernels (foak, Liger) in place of transformers' own."""
    yield from (row for row in _rows() if row.differs)


def _rows() -> Iterator[Row]:
    gpu = find_hardware("a100-80gb").gpus[0]
    for line in lines("published.jsonl"):
        if "fms-acceleration" not in line["source"] or line["num_gpus"] > 1:
            continue
        quantization = _quantization(line)
        config = find_model("mistral-7b").config
        if quantization == "gptq":
            config = {**config, "quantization_config": _PACKED}
        adapts, kernels = line["method"] != "full", line["kernels"] or ""
        recipe = Recipe(
            method=line["method"], device="cuda", kernel="flash", allocator="default", attention="flash",
            precision=_precision(line, quantization), quantization=quantization,
            kbit_preparation="own prepare" not in line["notes"],
            rank=line["rank"] or 8, dropout=line["dropout"] or 0.0,
            target_modules=tuple((line["target_modules"] or "q_proj").replace(" c_attn", "").split()),
            batch_size=line["micro_batch"], accumulation=1, seq_len=line["seq_len"], supervised_len=line["seq_len"],
            checkpointing="full", padding="none",
        )  # fmt: skip
        packed = " over GPTQ" if quantization == "gptq" else ""
        yield Row(
            name=line["id"],
            group=f"A100 {line['method']}{'' if adapts else ' fine-tuning'}{packed}"
            f"{', fused kernels' if kernels else ''}",
            model="mistralai/Mistral-7B-v0.1",
            config=config,
            recipe=on_gpu(recipe, gpu, config),
            gpu=gpu,
            measured={"allocated": line["measured_bytes"]},
            warm_up=quantization not in ("none", "gptq"),
            rules=_rules(line, recipe),
            differs=kernels,
            source=line["source"],
        )


def _quantization(line: Mapping[str, Any]) -> Any:
    word = (line["quantization"] or "").lower()
    return "gptq" if "gptq" in word else "nf4-dq" if "nf4" in word else "none"


def _precision(line: Mapping[str, Any], quantization: str) -> Any:
    """GPTQ runs are in fp16 under autocast, the other quantized ones under bf16's."""
    if quantization == "gptq":
        return "fp16-amp"
    return "bf16-amp" if quantization != "none" and "no autocast" not in line["compute_dtype"] else "bf16"


def _rules(line: Mapping[str, Any], recipe: Recipe) -> tuple[str, ...]:
    found = [SHIFTED] if "transformers 4.48" in line["framework"] else [EARLY_FLOAT, SHIFTED]
    if recipe.quantization == "nf4-dq" and recipe.kbit_preparation:
        found.append(TRL_CASTS)
    return tuple(found)


_PACKED: Mapping[str, Any] = {"quant_method": "gptq", "bits": 4, "group_size": 128}
"""huggingface.co/TheBloke/Mistral-7B-v0.1-GPTQ, its main branch."""
