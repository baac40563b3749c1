"""Predicted against measured memory of real training runs on this CPU, by phase.

`python -m benchmarks.cpu_accuracy [--only TEXT] [--fast]` from the repository's root. Each case is a process of
its own with its own environment; peak RSS is the kernel's high-water mark, reset at each phase.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from lplan.planner.estimate import Estimate, PhaseEstimate
from lplan.planner.estimating import Situation, make_estimate, shape_of
from lplan.planner.events import PhasePeak
from lplan.planner.recipe import Recipe
from lplan.planner.runtime import Baseline
from lplan.planner.tracer import baseline, footprint
from lplan.planner.versions import stack_versions
from lplan.profiles.budget import decide_budget
from lplan.profiles.find import find_model
from lplan.profiles.machine import this_machine
from lplan.profiles.model import ModelProfile, WeightFiles

from .cases import CASES, FAST, Case
from .checkpoints import checkpoint
from .machine_info import RESULTS, store
from .real_run import Measured, run

MIB = 2**20


def profile(case: Case) -> ModelProfile:
    """The case's model: files on disk, or a configuration alone."""
    if case.weights is not None:
        return find_model(str(checkpoint(case.weights)))
    return ModelProfile(
        id=case.name, alias=None, model_type=case.config["model_type"], architecture="", config=case.config,
        parameters=None, weights=WeightFiles(format="none", dtype="bfloat16", total_bytes=0), location=None,
        source="benchmark",
    )  # fmt: skip


def predict(model: ModelProfile, recipe: Recipe, libraries: Baseline | None = None) -> Estimate:
    """The estimate on this machine; `libraries`: the import baseline, if not the one measured here and now."""
    found = footprint(model, recipe, shape_of(recipe))
    hardware = this_machine()
    situation = Situation(
        model=model,
        hardware=hardware,
        budget=decide_budget(hardware),
        baseline=libraries or baseline(),
        versions=stack_versions(),
    )
    return make_estimate(recipe, found, situation)


def row(case: Case, steps: int = 2) -> dict[str, Any]:
    """Run and predict one case."""
    model = profile(case)
    predicted = predict(model, case.recipe)
    measured = run(
        case.recipe, model.config, model=str(model.location) if case.weights else None, steps=steps
    )
    return compare(case, predicted, measured)


def compare(case: Case, predicted: Estimate, measured: Measured) -> dict[str, Any]:
    """Predicted and measured bytes by phase, and the error of the run's peak."""
    phases = {
        phase.name: {"predicted": _predicted(phase), "measured": _measured(measured.phases[phase.name])}
        for phase in predicted.phases
        if phase.name in measured.phases
    }
    top = max(phase["predicted"]["rss_bytes"] for phase in phases.values())
    return {
        "case": case.name, "fitted": case.fitted, "recipe": case.recipe.to_dict(), "config": dict(case.config),
        "phases": phases, "predicted_bytes": top, "measured_bytes": measured.peak_bytes,
        "error": top / measured.peak_bytes - 1,
        "step_s": [step.step_s for step in measured.steps],
    }  # fmt: skip


def _predicted(phase: PhaseEstimate) -> dict[str, Any]:
    return {
        "rss_bytes": phase.peak.expected_bytes, "low_bytes": phase.peak.low_bytes,
        "high_bytes": phase.peak.high_bytes, "anonymous_bytes": phase.anonymous_bytes,
        "file_bytes": phase.file_bytes, "components": dict(phase.components),
    }  # fmt: skip


def _measured(peak: PhasePeak) -> dict[str, Any]:
    return {
        "rss_bytes": peak.rss_bytes, "anonymous_bytes": peak.anonymous_bytes, "file_bytes": peak.file_bytes
    }  # fmt: skip


def imported(stored: Mapping[str, Any]) -> Baseline:
    """What the imports of a stored run reached."""
    reached = stored["phases"]["import"]["measured"]
    return Baseline(anonymous_bytes=reached["anonymous_bytes"], file_bytes=reached["file_bytes"])


def again(stored: Mapping[str, Any], cases: Sequence[Case] = CASES) -> dict[str, Any]:
    """A stored run beside what today's code predicts for it, in the environment in which it ran."""
    case = next(case for case in cases if case.name == stored["case"])
    predicted = predict(profile(case), case.recipe, imported(stored))
    phases = {
        phase.name: {**stored["phases"][phase.name], "predicted": _predicted(phase)}
        for phase in predicted.phases
        if phase.name in stored["phases"]
    }
    top = max(phase["predicted"]["rss_bytes"] for phase in phases.values())
    return {
        **stored, "fitted": case.fitted, "recipe": case.recipe.to_dict(), "phases": phases,
        "predicted_bytes": top, "error": top / stored["measured_bytes"] - 1,
    }  # fmt: skip


def table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Worst under-prediction first."""
    view = Table("case", "predicted", "measured", "error", "anonymous", "held out", title="peak RSS, MiB")
    for item in sorted(rows, key=lambda r: r["error"]):
        anonymous = [
            p["predicted"]["anonymous_bytes"] / p["measured"]["anonymous_bytes"] - 1
            for p in item["phases"].values()
        ]
        worst = max(anonymous, key=abs)
        view.add_row(
            item["case"], f"{item['predicted_bytes'] / MIB:.0f}", f"{item['measured_bytes'] / MIB:.0f}",
            f"{item['error']:+.2%}", f"{worst:+.1%}", "" if item["fitted"] else "yes",
        )  # fmt: skip
    return view


def main() -> None:
    """Measure, print, store."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", help="cases whose name contains this")
    parser.add_argument(
        "--again", action="store_true", help="predict anew for the stored runs; measure nothing"
    )
    parser.add_argument("--fast", action="store_true", help="the few cases of the regression test")
    options = parser.parse_args()
    before = json.loads((RESULTS / "cpu_accuracy.json").read_text()) if options.again or options.only else {}
    os.chdir(Path(__file__).parents[1])
    chosen = [
        c
        for c in CASES
        if (not options.only or options.only in c.name) and (not options.fast or c.name in FAST)
    ]
    console = Console()
    if options.again:
        rows = [again(stored) for stored in before["rows"]]
    else:
        rows = []
        for case in chosen:
            rows.append(row(case))
            console.print(f"{case.name}: {rows[-1]['error']:+.2%}")
    console.print(table(rows))
    errors = [abs(r["error"]) for r in rows]
    console.print(f"mean |error| {sum(errors) / len(errors):.2%}, worst {max(errors):.2%}")
    console.print(f"lowest {min(r['error'] for r in rows):+.2%}, {len(rows)} runs")
    if options.only:
        measured = {r["case"]: r for r in rows}
        rows = [measured.get(stored["case"], stored) for stored in before["rows"]]
    if not options.fast:
        console.print(f"stored in {store('cpu_accuracy', rows)}")


if __name__ == "__main__":
    main()
