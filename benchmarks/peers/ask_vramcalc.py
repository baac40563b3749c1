"""vramcalc's total, or its total without its overhead: JSON lines in, {name: bytes} out. It knows no quantization."""

import json
import sys
import tempfile
from pathlib import Path

import vramcalc


def answer(row):
    """With its default overhead; it knows no target modules."""
    with tempfile.TemporaryDirectory() as folder:
        config = {key: value for key, value in row["config"].items() if value is not None}
        (Path(folder) / "config.json").write_text(json.dumps(config), encoding="utf-8")
        estimate = vramcalc.estimate(
            folder, mode="train", dtype=row["precision"], batch=row["batch_size"], seq_len=row["seq_len"],
            lora_rank=None if row["method"] == "full" else row["rank"], grad_checkpoint=row["checkpointing"],
            precision="pure", attn_impl="eager" if row["eager"] else "sdpa",
        )  # fmt: skip
    return estimate.total + (0 if row["tensors"] else estimate.overhead)


rows = [row for row in map(json.loads, sys.stdin) if row["quantization"] == "none"]
json.dump({row["name"]: answer(row) for row in rows}, sys.stdout)
