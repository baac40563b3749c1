"""TinyLlama 1.1B with LoRA on Banking77 in 8 GB: the plan, under a kernel limit, against what it measures.

`python -m benchmarks.tinyllama_8g --data FOLDER` with Banking77's train.csv and test.csv. Random weights in the real
shape, written once as a sharded bf16 checkpoint; its own tokenizer is not reachable offline, so one is trained on
the data within the same vocabulary bound. Three optimizer steps under 8 GiB, then under the smallest budget that
the planner accepts.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from .checkpoints import tinyllama
from .machine_info import store

STEPS = 3
_PRECISION_BYTES = 16 * 2**20


def lplan(*arguments: str) -> tuple[int, dict[str, Any]]:
    """Run a command with --json; its exit status and document."""
    run = subprocess.run(
        [sys.executable, "-m", "lplan", *arguments, "--json"], capture_output=True, text=True, check=False
    )
    if run.returncode not in (0, 3):
        raise RuntimeError(run.stderr)
    return run.returncode, json.loads(run.stdout) if run.stdout else {}


def smallest_budget(model: Path, data: str, high_bytes: int) -> int:
    """The smallest budget for which there is a plan, to 16 MiB."""
    low_bytes = 0
    while high_bytes - low_bytes > _PRECISION_BYTES:
        middle = (low_bytes + high_bytes) // 2
        status, document = _planned(model, data, middle)
        if status == 0 and document["estimate"]["fits"]:
            high_bytes = middle
        else:
            low_bytes = middle
    return high_bytes


def _planned(model: Path, data: str, budget_bytes: int) -> tuple[int, dict[str, Any]]:
    try:
        return lplan("plan", *_common(model, data, budget_bytes))
    except RuntimeError:
        return 2, {}


def _common(model: Path, data: str, budget_bytes: int) -> list[str]:
    return [
        "--model", str(model), "--data", data, "--task", "banking77",
        "--ram", f"{budget_bytes // 2**20}M", "--max-steps", str(STEPS),
    ]  # fmt: skip


def trained(model: Path, data: str, budget_bytes: int) -> dict[str, Any]:
    """Fit and train under a budget; the run's document."""
    with tempfile.TemporaryDirectory() as folder:
        _, document = lplan("fit-and-train", *_common(model, data, budget_bytes), "--output", f"{folder}/run")
        started = json.loads(
            (Path(folder) / "run" / "events.jsonl").read_text(encoding="utf-8").splitlines()[0]
        )
    return {**document, "limiter": started["limiter"]}


def table(run: dict[str, Any], title: str) -> Table:
    """Predicted against measured, phase by phase."""
    view = Table("phase", "predicted", "measured", "error", title=title)
    predicted = {
        phase["name"]: phase["peak"]["expected_bytes"] for phase in run["plan"]["estimate"]["phases"]
    }
    for peak in run["measured"]:
        expected = predicted.get(peak["name"])
        if expected is not None:
            view.add_row(
                peak["name"], f"{expected / 2**20:.0f}", f"{peak['rss_bytes'] / 2**20:.0f}",
                f"{expected / peak['rss_bytes'] - 1:+.2%}",
            )  # fmt: skip
    return view


def main() -> None:
    """Measure, print, store."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--data", default=os.environ.get("BANKING77", "demo"), help="Banking77's folder; default: demo"
    )
    options = parser.parse_args()
    console = Console()
    model = tinyllama(options.data)
    budgets = {"8 GiB": 8 * 2**30}
    rows = []
    budgets["the smallest accepted"] = smallest_budget(model, options.data, 8 * 2**30)
    for name, budget_bytes in budgets.items():
        run = trained(model, options.data, budget_bytes)
        title = f"TinyLlama under {name} ({budget_bytes / 2**20:.0f} MiB, {run['limiter']}), MiB"
        console.print(table(run, title), run["outcome"]["explanation"])
        rows.append({"budget": name, "budget_bytes": budget_bytes, **run})
    for row in rows:
        del row["plan"]["replay"], row["folder"]
        row["plan"]["data"]["location"] = Path(row["plan"]["data"]["location"]).name
    console.print(f"stored in {store('tinyllama_8g', rows, data=Path(options.data).name)}")


if __name__ == "__main__":
    main()
