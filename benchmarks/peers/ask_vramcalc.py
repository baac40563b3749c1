"""vramcalc's total for rows without quantization of tests/data/t4.jsonl: JSON lines in, {name: bytes} out."""

import json
import sys
import tempfile
from pathlib import Path

import vramcalc


def total_bytes(row):
    """With its default overhead; it knows no target modules."""
    run, config = row["run"], row["config"]
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "config.json").write_text(json.dumps(named(config)), encoding="utf-8")
        estimate = vramcalc.estimate(
            folder, mode="train", dtype=run["precision"], batch=run["batch_size"], seq_len=run["seq_len"],
            lora_rank=run["lora_rank"], grad_checkpoint=run["grad_checkpoint"], precision="pure",
            attn_impl="eager" if run["kernel"] == "eager" else "sdpa",
        )  # fmt: skip
    return estimate.total + estimate.overhead


def named(config):
    """The config under Hugging Face's names."""
    known = {"num_layers": "num_hidden_layers", "num_kv_heads": "num_key_value_heads"}
    kind = "qwen2" if "Qwen" in config["name"] else "llama"
    return {"model_type": kind, **{known.get(key, key): value for key, value in config.items()}}


rows = [row for row in map(json.loads, sys.stdin) if row["run"]["quantization"] == "none"]
json.dump({row["run_id"]: total_bytes(row) for row in rows}, sys.stdout)
