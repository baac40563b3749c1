"""One training run on a GPU, its peaks by phase as JSON on stdout: what gpu_accuracy starts for each case."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import torch

from lplan.planner.recipe import Recipe
from lplan.planner.tracing.model import build, make_config, wrap


def main() -> None:
    """Run the order on stdin."""
    order = json.load(sys.stdin)
    recipe = Recipe.from_dict(order["recipe"])
    found: dict[str, dict[str, int]] = {}
    torch.cuda.init()
    with torch.device("cpu"):
        model: Any = build(make_config(order["config"]), recipe)
    model = model.cuda()
    _note(found, "load")
    model = wrap(model, recipe)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-4)
    _note(found, "wrap")
    for phase in ("first step", "steady step"):
        _step(model, recipe)
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        _note(found, phase)
    model.eval()
    with torch.no_grad():
        model(**_batch(recipe))
    _note(found, "evaluation")
    print(json.dumps(found))


def _step(model: Any, recipe: Recipe) -> None:
    loss = model(**_batch(recipe)).loss
    loss.backward()


def _batch(recipe: Recipe) -> dict[str, torch.Tensor]:
    ids = torch.randint(0, 1000, (recipe.batch_size, recipe.seq_len), device="cuda")
    batch = {"input_ids": ids, "labels": ids}
    if recipe.padding == "padded":
        mask = torch.ones_like(ids)
        mask[0, -1] = 0
        batch["attention_mask"] = mask
    return batch


def _note(found: dict[str, dict[str, int]], phase: str) -> None:
    torch.cuda.synchronize()
    found[phase] = {
        "allocated": torch.cuda.max_memory_allocated(),
        "reserved": torch.cuda.max_memory_reserved(),
        "process": _process_bytes(),
    }
    torch.cuda.reset_peak_memory_stats()


def _process_bytes() -> int:
    """What the driver says that this process holds; 0 where it does not say."""
    import pynvml

    pynvml.nvmlInit()
    handle = pynvml.nvmlDeviceGetHandleByIndex(torch.cuda.current_device())
    for process in pynvml.nvmlDeviceGetComputeRunningProcesses(handle):
        if process.pid == os.getpid():
            return int(process.usedGpuMemory or 0)
    return 0


if __name__ == "__main__":
    main()
