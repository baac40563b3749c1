"""fitcheck-llm's total for rows of tests/data/t4.jsonl: JSON lines in, {name: bytes} out."""

import json
import sys

from fitcheck.config_parser import ModelConfig
from fitcheck.estimator import TrainingConfig, estimate
from fitcheck.gpu_db import get_gpu


def total_bytes(row):
    """As its own tests read a row."""
    run = row["run"]
    training = TrainingConfig(
        precision=run["precision"], quantization=run["quantization"], double_quant=run["double_quant"],
        optimizer=run["optimizer"], lora_rank=run["lora_rank"], lora_targets=list(run["lora_targets"]),
        batch_size=run["batch_size"], seq_len=run["seq_len"], grad_checkpoint=run["grad_checkpoint"],
        flash_attn=run["kernel"] == "flash",
    )  # fmt: skip
    return round(estimate(ModelConfig(**row["config"]), training, get_gpu(run["gpu_key"])).total_mib * 2**20)


json.dump({row["run_id"]: total_bytes(row) for row in map(json.loads, sys.stdin)}, sys.stdout)
