"""Ranges from the residuals of left-out runs: `python -m benchmarks.fit_intervals` writes planner/intervals.toml.

A GPU's rows are those of the stock stack in benchmarks/results/accuracy.json, and our own runs in gpu_accuracy.json:
nothing was fitted to them but the context of their card. The CPU's are benchmarks/results/cpu_accuracy.json, each
predicted with constants fitted to other models.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from lplan.planner.residuals import Residuals
from lplan.profiles.find import find_model

from .fit_runtime import features, fit, residual
from .machine_info import RESULTS

TARGET = Path(__file__).parents[1] / "planner" / "intervals.toml"
_DOUBT_BYTES = {
    "cpu": 16_000_000,
    "Tesla T4": 50_000_000,
    "NVIDIA H200": 50_000_000,
    "other GPU": 200_000_000,
}
"""Chosen, not measured: contexts of drivers and cards, and systems, that no row tells of."""
_FEWEST_RUNS = 20
"""A kind with fewer is none of its own."""
_PHASES = ("load", "wrap", "first step", "steady step", "evaluation")


@dataclass(frozen=True, slots=True)
class Residual:
    """One run beside its left-out prediction."""

    kind: str
    model: str
    run: str
    predicted_bytes: float
    measured_bytes: int

    @property
    def share(self) -> float:
        """By what share it came out above."""
        return self.measured_bytes / self.predicted_bytes - 1


def left_out(without: str = "") -> Iterator[Residual]:
    """Every run, predicted without its model; none of the model `without`, not even for fits."""
    yield from cpu_residuals([row for row in _rows("cpu_accuracy") if family(row) != without])
    for row in _rows("accuracy"):
        if row["differs"] or row["model"] == without:
            continue
        quantized = "quantized" if "qlora" in row["group"].lower() else "plain"
        what = "process" if "process" in row["measured"] else "allocated"
        sides = row["predicted"][what], row["measured"][what]
        if row["group"].startswith("T4"):
            yield Residual(f"Tesla T4 {quantized}", row["model"], row["name"], *sides)
        yield Residual(f"other GPU {quantized}", row["model"], row["name"], *sides)
    for row in _rows("gpu_accuracy"):
        model = find_model(row["case"].split()[0].split("/")[0]).id
        if model != without:
            quantized = "plain" if row["recipe"]["quantization"] == "none" else "quantized"
            sides = _highest(row["predicted"]), _highest(row["phases"])
            for kind in (row["gpu"], "other GPU"):
                yield Residual(f"{kind} {quantized}", model, row["case"], *sides)


def _highest(phases: Mapping[str, Mapping[str, int]]) -> int:
    """The process at its peak: as predicted, or what PyTorch reserved and the driver's own."""
    found = [phases[name] for name in _PHASES if name in phases]
    return max(
        phase["process"] if "process" in phase else phase["reserved"] + phase["context"] for phase in found
    )


def cpu_residuals(rows: Sequence[Mapping[str, Any]]) -> Iterator[Residual]:
    """Of the phase that was to be the peak, against the peak that was."""
    for row in rows:
        model = family(row)
        others = [other for other in rows if other["fitted"] and family(other) != model]
        constants = fit(others)
        predicted = max(_predicted(row, phase, constants[phase]) for phase in row["phases"])
        yield Residual("cpu", model, row["case"], predicted, row["measured_bytes"])


def _predicted(row: Mapping[str, Any], phase: str, constants: Mapping[str, int]) -> float:
    """A phase's resident set with these constants of growth in place of the shipped ones."""
    total = float(row["phases"][phase]["measured"]["rss_bytes"])
    for kind in ("anonymous", "file"):
        fitted = [value for name, value in constants.items() if name.startswith(kind)]
        grown = sum(f * c for f, c in zip(features(row, kind), fitted, strict=True))
        total += grown - residual(row, phase, kind)
    return total


def family(row: Mapping[str, Any]) -> str:
    """The model of a CPU's run, whatever its depth."""
    return str(row["case"]).split()[0].split("-")[0]


def worst(found: Sequence[Residual]) -> dict[str, float]:
    """Of each model the residual farthest from zero."""
    shares: dict[str, float] = {}
    for run in found:
        shares[run.model] = max(shares.get(run.model, 0.0), round(run.share, 5), key=abs)
    return shares


def distribution(kind: str, found: Sequence[Residual]) -> Residuals:
    """What these residuals say of unseen runs."""
    doubt = next(size for name, size in _DOUBT_BYTES.items() if kind.startswith(name))
    return Residuals(worst=tuple(worst(found).values()), doubt_bytes=doubt)


def covered(kind: str) -> list[bool]:
    """Whether each run lies within the range that models other than its own lead to, constants and all."""
    inside = []
    for run in by_kind()[kind]:
        low, high = distribution(kind, by_kind(run.model)[kind]).spread().around(int(run.predicted_bytes))
        inside.append(low <= run.measured_bytes <= high)
    return inside


@cache
def by_kind(without: str = "") -> Mapping[str, list[Residual]]:
    """All left-out runs, none of the model `without`, by kinds that have enough of them."""
    kinds: dict[str, list[Residual]] = {}
    for found in left_out(without):
        kinds.setdefault(found.kind, []).append(found)
    return {kind: found for kind, found in kinds.items() if without or len(found) >= _FEWEST_RUNS}


def main() -> None:
    """Fit, say how many are covered, write."""
    lines = [
        "# Written by benchmarks/fit_intervals.py from benchmarks/results/{accuracy,gpu_accuracy,cpu_accuracy}.json.",
        "# worst: measured over expected peak, less one, of each model's worst run; the model left out of every fit.",
        "# doubt_bytes is chosen: contexts of drivers and cards that no row tells of.",
    ]
    for kind, found in by_kind().items():
        known, inside = distribution(kind, found), covered(kind)
        sys.stdout.write(
            f"{kind}: {len(found)} runs of {len(known.worst)} models, {sum(inside)} of {len(inside)} inside, "
            f"{known.spread().above:.2%}\n"
        )
        lines += [
            "", f'["{kind}"]', f"models = {json.dumps(list(worst(found)))}", f"worst = {json.dumps(known.worst)}",
            f"doubt_bytes = {known.doubt_bytes}",
        ]  # fmt: skip
    TARGET.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _rows(name: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))["rows"]
    return rows


if __name__ == "__main__":
    main()
