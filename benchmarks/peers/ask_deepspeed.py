"""DeepSpeed's `estimate_zero2_model_states_mem_needs` for one GPU, full fine-tuning: JSON lines in, {name: bytes} out.

It counts the states of mixed-precision Adam, times its buffer factor of 1.5, and no activations.
"""

import json
import sys

from deepspeed.runtime.zero.stage_1_and_2 import estimate_zero2_model_states_mem_needs


def answer(row):
    """Its GPU's share, nothing offloaded."""
    _, on_gpu = estimate_zero2_model_states_mem_needs(
        row["parameters"], num_gpus_per_node=1, num_nodes=1, cpu_offload=False
    )
    return round(on_gpu)


rows = [row for row in map(json.loads, sys.stdin) if row["method"] == "full"]
json.dump({row["name"]: answer(row) for row in rows}, sys.stdout)
