"""fitcheck-llm's total, or its total without its overhead: JSON lines in, {name: bytes} out.

It plans no full fine-tuning.
"""

import json
import sys

from fitcheck.config_parser import ModelConfig
from fitcheck.estimator import TrainingConfig, estimate
from fitcheck.gpu_db import get_gpu


def answer(row):
    """As its own tests read a row."""
    config = row["config"]
    heads = config["num_attention_heads"]
    model = ModelConfig(
        name=row["name"], num_params=row["parameters"], hidden_size=config["hidden_size"],
        num_layers=config["num_hidden_layers"], num_attention_heads=heads,
        num_kv_heads=config["num_key_value_heads"] or heads, intermediate_size=config["intermediate_size"],
        vocab_size=config["vocab_size"], head_dim=config["head_dim"] or config["hidden_size"] // heads,
        tie_word_embeddings=config.get("tie_word_embeddings", False),
    )  # fmt: skip
    training = TrainingConfig(
        precision=row["precision"], quantization=row["quantization"].partition("-")[0],
        double_quant=row["quantization"].endswith("-dq"), optimizer="adamw", lora_rank=row["rank"],
        lora_targets=row["targets"], batch_size=row["batch_size"], seq_len=row["seq_len"],
        grad_checkpoint=row["checkpointing"], flash_attn=not row["eager"],
    )  # fmt: skip
    report = estimate(model, training, get_gpu(row["gpu"]))
    return round((report.total_mib - (report.overhead_mib if row["tensors"] else 0)) * 2**20)


rows = [row for row in map(json.loads, sys.stdin) if row["method"] != "full"]
json.dump({row["name"]: answer(row) for row in rows}, sys.stdout)
