"""canifinetune's total without its safety margin, or of it what are tensors: JSON lines in, {name: bytes} out."""

import json
import sys

from canifinetune.estimator.memory import EstimateRequest, estimate


def answer(row):
    """With the scope of its own that has the row's modules."""
    config = row["config"]
    kind = config["model_type"]
    known = {
        "family": "llama" if kind == "mistral" else kind, "total_params": row["parameters"],
        "tie_word_embeddings": config.get("tie_word_embeddings", False),
        **{key: config[key] for key in ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size",
                                        "vocab_size")},
        "num_key_value_heads": config["num_key_value_heads"] or config["num_attention_heads"],
    }  # fmt: skip
    quantization = {"nf4": "nf4", "nf4-dq": "nf4_double_quant"}.get(row["quantization"], "none")
    memory = estimate(
        EstimateRequest(
            model_id=row["name"], method=row["method"], seq_len=row["seq_len"], micro_batch_size=row["batch_size"],
            base_dtype=row["precision"], quantization=quantization, lora_rank=row["rank"],
            lora_target_scope="attention", optimizer="adamw_torch", gradient_checkpointing=row["checkpointing"],
            attention_implementation="eager" if row["eager"] else "sdpa", gpu_vram_gb=row["vram_gib"], override=known,
            use_network=False,
        )
    ).memory  # fmt: skip
    beside = memory.safety_margin_gb + (memory.cuda_overhead_gb if row["tensors"] else 0)
    return round((memory.total_estimated_gb - beside) * 2**30)


json.dump({row["name"]: answer(row) for row in map(json.loads, sys.stdin)}, sys.stdout)
