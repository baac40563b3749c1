"""Fits planner/runtime.toml to the stored runs of benchmarks/cpu_accuracy.py that are marked as fitted.

`python -m benchmarks.fit_runtime`: least squares of what a process holds beyond tensors and imports, phase by
phase. The range around comes from the runs that are left out (benchmarks/fit_intervals.py).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lplan.planner.estimate import PHASES
from lplan.planner.recipe import Recipe
from lplan.planner.runtime import growth

from .cpu_accuracy import imported
from .machine_info import RESULTS

TARGET = Path(__file__).parents[1] / "planner" / "runtime.toml"
_NAMES = {
    "anonymous": ("anonymous_bytes", "anonymous_fp32_bytes", "anonymous_layer_bytes"),
    "file": ("file_bytes", "file_fp32_bytes", "file_checkpointing_bytes"),
}


def residual(row: Mapping[str, Any], phase: str, kind: str) -> float:
    """What a phase held beyond its predicted tensors and the import baseline."""
    recipe = Recipe.from_dict(row["recipe"])
    added = growth(phase, recipe, layers_of(row), imported(row))
    predicted, measured = (row["phases"][phase][side][f"{kind}_bytes"] for side in ("predicted", "measured"))
    return float(measured - predicted + getattr(added, f"{kind}_bytes"))


def layers_of(row: Mapping[str, Any]) -> int:
    """The model's depth."""
    config = row["config"]
    return int(config.get("num_hidden_layers") or config["n_layer"])


def features(row: Mapping[str, Any], kind: str) -> list[float]:
    """What each fitted constant is multiplied with."""
    recipe = Recipe.from_dict(row["recipe"])
    fp32 = float(recipe.precision == "fp32")
    return [1.0, fp32, float(layers_of(row)) if kind == "anonymous" else float(recipe.checkpoint_period > 0)]


def fit(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, int]]:
    """The constants of every phase."""
    fitted: dict[str, dict[str, int]] = {}
    for phase in PHASES:
        fitted[phase] = {}
        for kind, names in _NAMES.items():
            matrix = np.array([features(row, kind) for row in rows])
            wanted = np.array([residual(row, phase, kind) for row in rows])
            solution, *_ = np.linalg.lstsq(matrix, wanted, rcond=None)
            fitted[phase] |= {name: round(value) for name, value in zip(names, solution, strict=True)}
    fitted["import"] = dict.fromkeys(fitted["import"], 0)
    return fitted


def render(
    stored: Mapping[str, Any], fitted: Mapping[str, Mapping[str, int]], fixed: Mapping[str, Any]
) -> str:
    """runtime.toml's new text; `fixed` are the tables that this script does not fit."""
    names = [row["case"] for row in stored["rows"] if row["fitted"]]
    lines = [
        "# Written by benchmarks/fit_runtime.py. Bytes that a process needs besides tensors.",
        "[origin]",
        f"date = {stored['date']}",
        f"rows = {json.dumps(names)}",
        f"versions = {json.dumps(' '.join(f'{k} {v}' for k, v in stored['versions'].items()))}",
    ]
    for name in ("import", "kernels"):
        lines += ["", f"[{name}]", *(f"{key} = {value}" for key, value in fixed[name].items())]
    for phase, constants in fitted.items():
        lines += ["", f'[growth."{phase}"]', *(f"{key} = {value}" for key, value in constants.items())]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Fit and write."""
    import tomllib

    stored = json.loads((RESULTS / "cpu_accuracy.json").read_text(encoding="utf-8"))
    rows = [row for row in stored["rows"] if row["fitted"]]
    fixed = tomllib.loads(TARGET.read_text(encoding="utf-8"))
    TARGET.write_text(render(stored, fit(rows), fixed), encoding="utf-8")
    sys.stdout.write(f"fitted to {len(rows)} runs; measure again with benchmarks.cpu_accuracy\n")


if __name__ == "__main__":
    main()
