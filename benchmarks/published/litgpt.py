"""litgpt's tables: its own model code, adapters in bf16 on a fused qkv, a loss in chunks of 16 bits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from lplan.planner.kernels import on_gpu
from lplan.planner.recipe import Recipe
from lplan.profiles.find import find_model
from lplan.profiles.hardware import Gpu
from lplan.profiles.named import find_hardware

from ..older import CHUNKED_16_BIT, FUSED_QKV, KEPT_INPUTS, QUANTIZED_HEAD
from ..rows import Row, lines

OWN_CODE = "litgpt: own model code, LoRA in a fused qkv with zero padding"


def litgpt_rows() -> Iterator[Row]:
    """LoRA and QLoRA on an A100 in October 2023 (tutorials/resource-tables.md).

    The length is that of Alpaca's longest sample, to which the first micro batch is padded.
    """
    gpu = find_hardware("a100-40gb").gpus[0]
    for line in lines("published.jsonl"):
        if line["id"].startswith("litgpt-tbl") and line["num_gpus"] == 1:
            yield _row(line, "A100", gpu, OWN_CODE, ("first step",))


def litgpt_hub_rows() -> Iterator[Row]:
    """LoRA and QLoRA on an A10G in 2024 (config_hub/finetune). Micro batches are padded to their longest sample, cut at
    512 tokens, which is what is priced: of the micro batch before too, whose graph lives on in the loop's `loss`. Full
    fine-tuning there contradicts itself."""
    gpu = find_hardware("a10g").gpus[0]
    for line in lines("published.jsonl"):
        if line["id"].startswith("litgpt-hub") and line["method"] != "full":
            differs = f"{OWN_CODE}; lengths vary, priced at their limit"
            yield _row(line, "A10G", gpu, differs, ("first step", "steady step"))


def _row(line: Mapping[str, Any], card: str, gpu: Gpu, differs: str, steps: tuple[str, ...]) -> Row:
    config = _CONFIGS[line["model"]]
    quantization = (line["quantization"] or "none").removeprefix("bnb.")
    recipe = Recipe(
        method=line["method"], device="cuda", kernel="flash", allocator="default", precision="bf16",
        attention="eager" if config["model_type"] == "gemma2" else "sdpa",
        quantization=quantization, kbit_preparation=False, adapter_dtype="base", rank=line["rank"],
        dropout=line["dropout"] or 0.05, target_modules=_targets(line["target_modules"], config["model_type"]),
        batch_size=line["micro_batch"], accumulation=1, seq_len=line["seq_len"],
        supervised_len=line["seq_len"], padding="none", loop="plain",
    )  # fmt: skip
    return Row(
        name=line["id"],
        group=f"{card} {'LoRA' if line['method'] == 'lora' else 'QLoRA'}, litgpt",
        model=line["model"],
        config=config,
        recipe=on_gpu(recipe, gpu, config),
        gpu=gpu,
        measured={"allocated": line["measured_bytes"]},
        steps=steps,
        rules=(CHUNKED_16_BIT, FUSED_QKV, *((KEPT_INPUTS, QUANTIZED_HEAD) if quantization != "none" else ())),
        differs=differs,
        source=line["source"],
    )


def _targets(words: str, kind: str) -> tuple[str, ...]:
    """litgpt's names as those of a Llama, or of a Phi of two layers."""
    names = {"query": "q_proj", "key": "k_proj", "value": "v_proj", "head": "lm_head"} | (
        {"projection": "dense", "mlp": "fc1,fc2"}
        if kind == "phi"
        else {"projection": "o_proj", "mlp": "gate_proj,up_proj,down_proj"}
    )
    return tuple(",".join(names[word] for word in words.split(",")).split(","))


def _untied(alias: str) -> Mapping[str, Any]:
    """litgpt ties no weights."""
    return {**find_model(alias).config, "tie_word_embeddings": False}


_CONFIGS: Mapping[str, Mapping[str, Any]] = {
    # huggingface.co/microsoft/phi-1_5/blob/main/config.json; litgpt computes its GELU by one op
    "microsoft/phi-1_5": {
        "model_type": "phi", "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 24,
        "num_attention_heads": 32, "vocab_size": 51200, "max_position_embeddings": 2048,
        "partial_rotary_factor": 0.5, "resid_pdrop": 0.0, "tie_word_embeddings": False,
        "hidden_act": "gelu_pytorch_tanh",
    },
    "meta-llama/Llama-2-13b-hf": find_model("llama-2-13b").config,
    "microsoft/phi-2": {**find_model("phi-2").config, "hidden_act": "gelu_pytorch_tanh", "resid_pdrop": 0.0},
    "meta-llama/Llama-3.2-1B": _untied("llama-3.2-1b"),
    "meta-llama/Llama-3.2-3B": _untied("llama-3.2-3b"),
    "meta-llama/Meta-Llama-3.1-8B": find_model("llama-3.1-8b").config,
    "mistralai/Mistral-7B-v0.1": find_model("mistral-7b").config,
    "google/gemma-2-2b": _untied("gemma-2-2b"),
    # Phi-3's shape with the linears of its feed-forward apart, as litgpt has them
    "microsoft/Phi-3-mini-4k-instruct": {
        "model_type": "llama", "hidden_size": 3072, "intermediate_size": 8192, "num_hidden_layers": 32,
        "num_attention_heads": 32, "vocab_size": 32064, "tie_word_embeddings": False,
        "max_position_embeddings": 4096,
    },
}  # fmt: skip
