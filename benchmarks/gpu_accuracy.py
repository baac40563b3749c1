"""Real steps on this machine's GPU against the estimates: `python -m benchmarks.gpu_accuracy [--only TEXT]`.

Each case is a process of its own: a model with random weights, two optimizer steps, one evaluation batch; allocated and
reserved are read from torch after each phase, the process from NVML. Without a CUDA GPU nothing is measured, and it
says so.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from rich.console import Console
from rich.table import Table

from lplan.planner.estimating import shape_of
from lplan.planner.estimating_cuda import CudaRun
from lplan.planner.kernels import on_gpu
from lplan.planner.recipe import Recipe
from lplan.planner.tracing.trace import trace
from lplan.profiles.find import find_model
from lplan.profiles.gpu import find_gpus
from lplan.profiles.hardware import Gpu

from .machine_info import store

PHASES = ("load", "wrap", "first step", "steady step", "evaluation")
_USUAL = Recipe(
    device="cuda", kernel="efficient", allocator="default", init="random", batch_size=2, accumulation=1,
    seq_len=512, supervised_len=512, padding="none", dropout=0.0,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Case:
    """A catalogue model cut to `layers`, and how it is trained."""

    name: str
    model: str
    layers: int
    recipe: Recipe


CASES = tuple(
    Case(f"{model} {layers} {name}", model, layers, replace(_USUAL, **knobs))
    for model, layers in (("tinyllama", 22), ("smollm2-135m", 30), ("qwen2.5-0.5b", 24), ("gemma-3-270m", 18))
    for name, knobs in (
        ("lora", {}),
        ("lora ckpt", {"checkpointing": "full"}),
        ("lora eager", {"attention": "eager"}),
        ("lora padded 4x256", {"padding": "padded", "batch_size": 4, "seq_len": 256, "supervised_len": 256}),
        (
            "lora 8x1024 ckpt",
            {"checkpointing": "full", "batch_size": 8, "seq_len": 1024, "supervised_len": 1024},
        ),
        ("lora fp32", {"precision": "fp32"}),
        ("full fp32", {"method": "full", "precision": "fp32", "checkpointing": "full"}),
    )
)


def config_of(case: Case) -> dict[str, Any]:
    """The case's config.json content."""
    return {**find_model(case.model).config, "num_hidden_layers": case.layers}


def predicted(case: Case, recipe: Recipe, gpu: Gpu) -> dict[str, dict[str, int]]:
    """Estimated peaks by phase."""
    footprint = trace(config_of(case), recipe, shape_of(recipe))
    run = CudaRun(
        recipe=recipe, footprint=footprint, shape=shape_of(recipe), gpu=gpu, budget_bytes=gpu.memory_bytes
    )
    found = {phase.name: phase.cuda for phase in run.phases()}
    return {
        name: {
            "allocated": cuda.allocated_bytes,
            "reserved": cuda.reserved_bytes,
            "process": cuda.process_bytes,
        }
        for name in PHASES
        if (cuda := found[name]) is not None
    }


def measured(case: Case, recipe: Recipe) -> dict[str, dict[str, int]] | None:
    """Measured peaks by phase; None where the run fails."""
    order = json.dumps({"config": config_of(case), "recipe": recipe.to_dict()})
    run = subprocess.run(
        [sys.executable, "-m", f"{__package__}.gpu_step"],
        input=order,
        capture_output=True,
        text=True,
        check=False,
    )
    return json.loads(run.stdout.splitlines()[-1]) if run.returncode == 0 else None


def main() -> None:
    """Measure, compare, print, store."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="cases whose name has this in it")
    chosen = parser.parse_args()
    console, search = Console(), find_gpus()
    if not search.gpus:
        console.print("no CUDA GPU here: nothing is measured")
        return
    gpu = search.gpus[0]
    table = Table(
        "case", "phase", "allocated", "error", "reserved", "error", "process", "error", title=gpu.name
    )
    rows: list[Mapping[str, Any]] = []
    for case in CASES:
        if chosen.only not in case.name:
            continue
        recipe = on_gpu(case.recipe, gpu, config_of(case))
        found = measured(case, recipe)
        if found is None:
            console.print(f"{case.name}: the run failed")
            continue
        expected = predicted(case, recipe, gpu)
        rows.append({"case": case.name, "predicted": expected, "measured": found})
        for phase in PHASES:
            cells = [
                _cells(expected[phase][what], found[phase].get(what))
                for what in ("allocated", "reserved", "process")
            ]
            table.add_row(case.name, phase, *(cell for pair in cells for cell in pair))
    console.print(table)
    console.print(f"stored in {store('gpu_accuracy', rows, gpu=gpu.name)}")


def _cells(expected: int, found: int | None) -> tuple[str, str]:
    if not found:
        return "", ""
    return f"{found / 2**20:.0f}", f"{100 * (expected / found - 1):+.2f} %"


if __name__ == "__main__":
    main()
