"""fitscout's total, or its total without its overhead: JSON lines in, {name: bytes} out. Adapters on q and v alone."""

import json
import sys

from fitscout.memory.estimator import estimate_memory
from fitscout.model.profile import ModelProfile


def answer(row):
    """Without its margin of 20 %."""
    config = row["config"]
    heads = config["num_attention_heads"]
    profile = ModelProfile(
        params=row["parameters"], num_layers=config["num_hidden_layers"], hidden_size=config["hidden_size"],
        num_attention_heads=heads, num_kv_heads=config["num_key_value_heads"] or heads,
        intermediate_size=config["intermediate_size"], vocab_size=config["vocab_size"],
        tie_word_embeddings=config.get("tie_word_embeddings", False),
    )  # fmt: skip
    found = estimate_memory(
        profile, method=row["method"], micro_batch=row["batch_size"], seq_len=row["seq_len"],
        grad_ckpt=row["checkpointing"], lora_rank=row["rank"],
    )  # fmt: skip
    return round((found.total_gb - (found.overhead_gb if row["tensors"] else 0)) * 2**30)


json.dump({row["name"]: answer(row) for row in map(json.loads, sys.stdin)}, sys.stdout)
