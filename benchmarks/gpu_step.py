"""Training runs of lplan's own worker on a GPU, with their peaks by phase: what gpu_accuracy starts for its cases.

Orders as JSON on stdin, one answer a line on stdout: allocated and reserved as PyTorch counts them, and what the driver
counts for the process besides (context), by phase; seconds of the steps.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from typing import Any

import torch

from lplan.planner.recipe import Recipe
from lplan.trainer.channel import Channel
from lplan.trainer.worker import run

from .allocator_history import recorded
from .real_run import fill, job_of, samples

WARM_UP = 2
"""Steps that are not timed: libraries choose and load their kernels in them."""


class _Notes(Channel):
    """Keeps what a parent would be told, and reads the device at the end of every phase."""

    def __init__(self, context_bytes: Callable[[int], int]) -> None:
        super().__init__(None, time.monotonic())
        self.context_bytes = context_bytes
        self.phases: dict[str, dict[str, int]] = {}
        self.steps_s: list[float] = []
        self._name: str | None = None

    def phase(self, name: str) -> None:
        self.phase_peak()
        self._name = name

    def phase_peak(self) -> None:
        if self._name is not None and torch.cuda.is_initialized():
            torch.cuda.synchronize()
            found = {
                "allocated": torch.cuda.max_memory_allocated(),
                "reserved": torch.cuda.max_memory_reserved(),
                "context": self.context_bytes(torch.cuda.memory_reserved()),
            }
            before = self.phases.get(self._name, found)
            self.phases[self._name] = {what: max(found[what], before[what]) for what in found}
            torch.cuda.reset_peak_memory_stats()
        self._name = None

    def metric(self, *, step_s: float, **_: Any) -> None:
        self.steps_s.append(step_s)


def main() -> None:
    """Obey, one order after another."""
    sys.stdout, answers = sys.stderr, sys.stdout
    for line in sys.stdin:
        print(json.dumps(_obey(json.loads(line))), file=answers, flush=True)


def _obey(order: Mapping[str, Any]) -> dict[str, Any]:
    recipe, config, steps = Recipe.from_dict(order["recipe"]), order["config"], order["steps"]
    notes = _Notes(_driver())
    try:
        with tempfile.TemporaryDirectory() as name, recorded(order.get("history")):
            vocabulary = int(config["vocab_size"])
            train = samples(recipe, vocabulary, recipe.effective_batch * steps)
            held_out = samples(recipe, vocabulary, recipe.batch_size)
            fill(Path(name), job_of(recipe, config, model=order["model"], steps=steps), train, held_out)
            run(Path(name), notes, [])
    except Exception as error:
        return {"error": f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"}
    finally:
        gc.collect()
        torch.cuda.empty_cache()
    return {"phases": notes.phases, "step_s": median(notes.steps_s[WARM_UP:] or notes.steps_s)}


def _driver() -> Callable[[int], int]:
    """What the driver says that this process holds of the first GPU, less PyTorch's reserved bytes; 0 where it does
    not say."""
    import pynvml

    pynvml.nvmlInit()
    handle = pynvml.nvmlDeviceGetHandleByIndex(0)

    def context_bytes(reserved_bytes: int) -> int:
        for process in pynvml.nvmlDeviceGetComputeRunningProcesses(handle):
            if process.pid == os.getpid() and process.usedGpuMemory:
                return int(process.usedGpuMemory) - reserved_bytes
        return 0

    return context_bytes


if __name__ == "__main__":
    main()
