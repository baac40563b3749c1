"""accelerate's `estimate_training_usage`, the figures of `accelerate estimate-memory`, for full fine-tuning: JSON lines
in, {name: bytes} out. It counts weights, gradients and Adam's states, and no activations."""

import json
import sys

from accelerate.commands.estimate import estimate_training_usage


def answer(row):
    """The largest of its four figures."""
    return max(estimate_training_usage(4 * row["parameters"], "bfloat16").values())


rows = [row for row in map(json.loads, sys.stdin) if row["method"] == "full"]
json.dump({row["name"]: answer(row) for row in rows}, sys.stdout)
