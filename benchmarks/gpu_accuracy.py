"""Real runs on this machine's GPU against the estimates: `python -m benchmarks.gpu_accuracy [--only TEXT]`.

Where there is a CUDA GPU every case of gpu_cases runs in a process of its own, several at a time; allocated and
reserved are PyTorch's peaks of each phase, context what the driver counts besides. Then some run again, one at a time,
for their seconds a step. What was measured is stored by card (gpu_runs-*.json) and compared with what is estimated now,
here or on a machine without a GPU.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from rich.console import Console
from rich.table import Table

from lplan.planner.allocator import environment_of
from lplan.planner.cuda import gpu_rates
from lplan.planner.estimating import shape_of
from lplan.planner.estimating_cuda import CudaRun
from lplan.planner.footprint import Footprint
from lplan.planner.kernels import on_gpu
from lplan.planner.plan import Schedule
from lplan.planner.recipe import Allocator, Recipe
from lplan.planner.timing import predict_time
from lplan.planner.tracing.trace import trace
from lplan.profiles.errors import LplanError
from lplan.profiles.gpu import find_gpus
from lplan.profiles.hardware import Gpu
from lplan.profiles.named import with_datasheet

from .gpu_cases import CASES, HISTORIES, TIMED, Case
from .gpu_weights import random_weights
from .machine_info import RESULTS, store

PHASES = ("load", "wrap", "first step", "steady step", "evaluation")
AT_A_TIME = 12
STEPS, TIMED_STEPS = 3, 12
MIB = 2**20


def measure(gpu: Gpu, chosen: Sequence[Case], histories: Path | None, until_s: float) -> list[dict[str, Any]]:
    """Runs the cases, none that would begin after `until_s` (time.monotonic); a row each, with "error" in place of what
    failed."""
    for model in {case.model for case in chosen if case.from_files}:
        random_weights(model)
    heavy = [case for case in chosen if case.recipe.method == "full" or "8b" in case.model]
    rows: dict[str, dict[str, Any]] = {}
    for cases, at_a_time in (([c for c in chosen if c not in heavy], AT_A_TIME), (heavy, AT_A_TIME // 2)):
        with ThreadPoolExecutor(at_a_time) as pool:
            for case, found in zip(
                cases, pool.map(lambda c: _alone(c, gpu, histories, until_s), cases), strict=True
            ):
                rows[case.name] = {"case": case.name, "recipe": on(case, gpu).to_dict(), **found}
    timed = [case for case in chosen if case.name in TIMED]
    orders = [_order(case, gpu, TIMED_STEPS) for case in timed]
    for case, found in zip(timed, _answers(orders, "default", until_s), strict=False):
        rows[case.name]["step_s"] = found.get("step_s")
    return list(rows.values())


def on(case: Case, gpu: Gpu) -> Recipe:
    """The case's recipe with the kernels of this GPU."""
    return on_gpu(case.recipe, gpu, case.config)


def _alone(case: Case, gpu: Gpu, histories: Path | None, until_s: float) -> dict[str, Any]:
    order = _order(case, gpu, STEPS)
    if histories is not None and case.name in HISTORIES:
        order["history"] = str(histories / f"{case.name.replace(' ', '-')}.json.gz")
    found = next(_answers([order], case.recipe.allocator, until_s), {"error": "not done in time"})
    return {key: value for key, value in found.items() if key != "step_s"}


def _order(case: Case, gpu: Gpu, steps: int) -> dict[str, Any]:
    model = str(random_weights(case.model)) if case.from_files else None
    return {"recipe": on(case, gpu).to_dict(), "config": case.config, "model": model, "steps": steps}


def _answers(
    orders: Sequence[Mapping[str, Any]], allocator: Allocator, until_s: float
) -> Iterator[dict[str, Any]]:
    """What one process answers to all orders, until its time is over."""
    left_s = until_s - time.monotonic()
    if left_s <= 0:
        return
    with TemporaryFile("w+") as answers:
        with suppress(subprocess.TimeoutExpired):
            subprocess.run(
                [sys.executable, "-m", f"{__package__}.gpu_step"],
                input="\n".join(json.dumps(order) for order in orders),
                env={**os.environ, **environment_of(allocator, threads=2)},
                stdout=answers, text=True, check=False, timeout=left_s,
            )  # fmt: skip
        answers.seek(0)
        yield from map(json.loads, answers)


def compared(row: Mapping[str, Any], gpu: Gpu) -> dict[str, Any]:
    """A measured row with what is estimated now: bytes by phase, seconds a step."""
    case = next(case for case in CASES if case.name == row["case"])
    recipe = on(case, gpu)
    if "error" in row:
        return dict(row)
    try:
        footprint = trace(case.config, recipe, shape_of(recipe))
    except LplanError as error:
        return {**row, "refused": str(error)}
    run = CudaRun(
        recipe=recipe, footprint=footprint, shape=shape_of(recipe), gpu=gpu, budget_bytes=gpu.memory_bytes
    )
    found = {phase.name: phase.cuda for phase in run.phases()}
    predicted = {
        name: {
            "allocated": cuda.allocated_bytes,
            "reserved": cuda.reserved_bytes,
            "process": cuda.process_bytes,
        }
        for name in PHASES
        if (cuda := found[name]) is not None
    }
    return {**row, "predicted": predicted, "predicted_step_s": _seconds(recipe, footprint, gpu, case)}


def _seconds(recipe: Recipe, footprint: Footprint, gpu: Gpu, case: Case) -> float:
    width = int(case.config.get("hidden_size") or case.config["n_embd"])
    return predict_time(recipe, footprint, gpu_rates(with_datasheet(gpu)), None, Schedule(), width).step_s


def table(rows: Sequence[Mapping[str, Any]], name: str) -> Table:
    """Peaks of the whole run in MiB, and of the steady step; the lowest prediction first."""
    view = Table(
        "case", "allocated", "error", "reserved", "error", "process", "error", "step", "error", title=name
    )
    for row in sorted(rows, key=_error):
        if "predicted" not in row:
            view.add_row(row["case"], row.get("error") or row.get("refused"))
            continue
        cells = [cell for what in ("allocated", "reserved", "process") for cell in _cells(row, what)]
        view.add_row(row["case"], *cells, *_time(row))
    return view


def peak(row: Mapping[str, Any], side: str, what: str) -> int:
    """Highest over the phases that both sides have."""
    return max(_bytes(row[side][name], what) for name in PHASES if name in row["phases"])


def _bytes(phase: Mapping[str, int], what: str) -> int:
    if what == "process" and what not in phase:
        return phase["reserved"] + phase["context"]
    return phase[what]


def error(row: Mapping[str, Any], what: str) -> float:
    """Predicted over measured peak, less one."""
    return peak(row, "predicted", what) / peak(row, "phases", what) - 1


def _error(row: Mapping[str, Any]) -> float:
    return error(row, "allocated") if "predicted" in row else -9.0


def _cells(row: Mapping[str, Any], what: str) -> tuple[str, str]:
    return f"{peak(row, 'phases', what) / MIB:.0f}", f"{error(row, what):+.2%}"


def _time(row: Mapping[str, Any]) -> tuple[str, ...]:
    if not row.get("step_s"):
        return ()
    return f"{1e3 * row['step_s']:.0f} ms", f"{row['predicted_step_s'] / row['step_s'] - 1:+.0%}"


def main() -> None:
    """Measure, compare, print, store."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="cases whose name has this in it; nothing is stored")
    parser.add_argument("--measure", action="store_true", help="don't compare")
    parser.add_argument("--stored", action="store_true", help="don't measure")
    parser.add_argument(
        "--seconds", type=float, default=3600.0, help="nothing begins after so many; default 3600"
    )
    parser.add_argument("--histories", type=Path, help="a folder for what some cases asked of the allocator")
    options = parser.parse_args()
    console, search, began_s = Console(), find_gpus(), time.monotonic()
    if search.gpus and not options.stored:
        gpu, chosen = search.gpus[0], [case for case in CASES if options.only in case.name]
        rows = measure(gpu, chosen, options.histories, began_s + options.seconds)
        if not options.only:
            slug = gpu.name.lower().replace(" ", "-")
            console.print(f"stored in {store(f'gpu_runs-{slug}', rows, gpu=asdict(gpu))}")
    else:
        console.print("nothing is measured" if search.gpus else "no CUDA GPU here: nothing is measured")
    if options.measure:
        return
    everything: list[dict[str, Any]] = []
    for path in sorted(RESULTS.glob("gpu_runs-*.json")):
        stored = json.loads(path.read_text())
        gpu = Gpu(**{**stored["gpu"], "capability": tuple(stored["gpu"]["capability"])})
        rows = [compared(row, gpu) for row in stored["rows"] if options.only in row["case"]]
        console.print(table(rows, f"{gpu.name}, MiB"))
        everything += [{"gpu": gpu.name, **row} for row in rows]
    if everything and not options.only:
        console.print(f"stored in {store('gpu_accuracy', everything)}")


if __name__ == "__main__":
    main()
