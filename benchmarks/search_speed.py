"""How fast a search is: evaluations a second from cached footprints, and whole searches, cold and warm.

`python -m benchmarks.search_speed` on a machine that does nothing else. Cold: the clock's seconds, without those that
the tracing processes need for their imports; what this machine's self-test measured is known. Warm: processor time,
the median of three.
Stored as benchmarks/results/search_speed.json.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from operator import itemgetter
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from lplan.planner.estimating import shape_of
from lplan.planner.planning import task_for
from lplan.planner.pricer import Pricer
from lplan.planner.search import search, tracing
from lplan.planner.setting import understand
from lplan.planner.space import space
from lplan.planner.store import CACHE_VARIABLE
from lplan.planner.task import Task

from .machine_info import store

CASES = {
    "TinyLlama, CPU": {"model": "tinyllama", "hardware": None, "ram": 8 << 30, "vram": None},
    "TinyLlama, T4": {"model": "tinyllama", "hardware": "t4", "ram": None, "vram": None},
    "Mistral-7B, T4 (nothing fits)": {"model": "mistral-7b", "hardware": "t4", "ram": None, "vram": None},
    "Llama-3.1-8B, A100": {"model": "llama-3.1-8b", "hardware": "a100-40gb", "ram": None, "vram": None},
}
_LENGTHS = range(16, 2048)
_IMPORTS = (
    "import torch; from transformers import AutoModelForCausalLM, Trainer; from peft import get_peft_model"
)


def task_of(case: dict[str, Any]) -> Task:
    """What a case plans for."""
    asked = {name: value for name, value in case.items() if name != "model"}
    request, situation = understand(case["model"], asked)
    return task_for(request, situation)


def evaluations_per_s(task: Task) -> float:
    """Memory and time of all recipes of a space at two thousand lengths, from footprints compiled anew, on one core."""
    with tracing(task, None) as footprints:
        pricer = Pricer(task, footprints)
        graphs = []
        for recipe in space(task):
            footprint = footprints.known(recipe, shape_of(recipe))
            if footprint is not None:
                graphs.append((pricer.compiled(recipe, footprint), recipe))
    began, count = time.process_time(), 0
    for length in _LENGTHS:
        for (clock, least), recipe in graphs:
            batch = recipe.batch_size
            values = (
                1,
                length,
                length * length,
                batch,
                batch * length,
                batch * length * length,
                batch * length,
                128,
            )
            least.at(values)
            clock.step_s(values, recipe.accumulation)
            count += 1
    return count / (time.process_time() - began)


@contextmanager
def fresh_cache() -> Iterator[None]:
    """An empty cache but for what was measured of this machine."""
    before = os.environ.get(CACHE_VARIABLE)
    with tempfile.TemporaryDirectory() as folder:
        os.environ[CACHE_VARIABLE] = folder
        try:
            yield
        finally:
            del os.environ[CACHE_VARIABLE]
            if before is not None:
                os.environ[CACHE_VARIABLE] = before


def searched(task: Task) -> dict[str, Any]:
    """Seconds of one search: this process's, its tracing process's, and the clock's."""
    graphs: list[int] = []
    before, began = os.times(), time.perf_counter()
    found = search(task, lambda done, _of: graphs.append(done))
    after = os.times()
    return {
        "wall_s": time.perf_counter() - began,
        "own_cpu_s": after.user + after.system - before.user - before.system,
        "tracing_cpu_s": after.children_user
        + after.children_system
        - before.children_user
        - before.children_system,
        "graphs_traced": len(graphs),
        "priced_exactly": len(found.candidates),
        "fits": found.chosen.fits,
    }


def imports_s() -> float:
    """The clock's seconds for what the tracing process imports: the median of three."""
    times = []
    for _ in range(3):
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", _IMPORTS], check=True)
        times.append(time.perf_counter() - began)
    return median(times)


def main() -> None:
    """Measure, print, store."""
    console, rows = Console(), []
    imports = imports_s()
    view = Table("case", "recipes", "traced", "cold beyond imports", "warm", "priced", "evaluations/s")
    for name, case in CASES.items():
        task = task_of(case)
        with fresh_cache():
            cold, others = searched(task), [searched(replace(task)) for _ in range(3)]
            speed = median(evaluations_per_s(task) for _ in range(3))
        warm = sorted(others, key=itemgetter("own_cpu_s"))[1]
        beyond = cold["wall_s"] - (imports if cold["graphs_traced"] else 0)
        rows.append({
            "case": name, "recipes": sum(1 for _ in space(task)), "cold": cold, "warm": warm, "imports_s": imports,
            "cold_beyond_imports_s": beyond, "evaluations_per_s": speed,
        })  # fmt: skip
        view.add_row(
            name, str(rows[-1]["recipes"]), str(cold["graphs_traced"]), f"{beyond:.1f} s",
            f"{warm['own_cpu_s']:.2f} s", str(warm["priced_exactly"]), f"{speed:,.0f}",
        )  # fmt: skip
    console.print(view)
    console.print(f"stored in {store('search_speed', rows)}")


if __name__ == "__main__":
    main()
