"""Predicted against measured seconds of an optimizer step on this CPU: 20 configurations of four models.

`python -m benchmarks.step_time [--only TEXT] [--again]` on a machine that does nothing else. The machine's self-test is
made anew; each case is a process of its own, as a real run is. Measured is the median of the steps after the first,
which also makes kernels and optimizer states.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from statistics import correlation, median
from typing import Any

from rich.console import Console
from rich.table import Table

from lplan.planner.estimating import shape_of
from lplan.planner.floating import hidden_size
from lplan.planner.footprint import Footprint
from lplan.planner.plan import Schedule
from lplan.planner.rates import Rates, measured_rates, rates_from
from lplan.planner.recipe import Allocator, Recipe
from lplan.planner.store import FootprintStore
from lplan.planner.timing import predict_time
from lplan.planner.tracer import footprints
from lplan.profiles.errors import LplanError
from lplan.profiles.machine import this_machine

from .cases import TIMED, Case
from .cpu_accuracy import profile
from .machine_info import RESULTS, store
from .real_run import run

STEPS = 4
THREADS = Recipe().threads
ALLOCATORS: tuple[Allocator, ...] = ("pinned", "default")


def rates_now() -> dict[str, Rates]:
    """The self-test under each allocator, not from the cache: what the machine is capable of today."""
    with tempfile.TemporaryDirectory() as folder:
        fresh = FootprintStore(Path(folder))
        return {allocator: measured_rates(allocator, THREADS, fresh) for allocator in ALLOCATORS}


def rates_of(stored: Mapping[str, Any]) -> dict[str, Rates]:
    """The rates of a stored result."""
    return {
        allocator: rates_from(values["matmul_flop_per_s"], _without(values, "matmul_flop_per_s"))
        for allocator, values in stored["rates"].items()
    }


def _without(values: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key != name}


def traced(cases: Sequence[Case]) -> Iterator[tuple[Case, Footprint]]:
    """Each case with its footprint: a tracing process a model. Raises LplanError where one is refused."""
    by_model: dict[str, list[Case]] = {}
    for case in cases:
        by_model.setdefault(json.dumps(case.config), []).append(case)
    for alike in by_model.values():
        requests = [(case.recipe, shape_of(case.recipe)) for case in alike]
        for case, found in zip(alike, footprints(profile(alike[0]), requests), strict=True):
            if isinstance(found, LplanError):
                raise found
            yield case, found


def predicted_s(case: Case, footprint: Footprint, rates: Mapping[str, Rates]) -> float:
    """Seconds of a step, as a plan says it."""
    recipe, width = case.recipe, hidden_size(case.config)
    return predict_time(recipe, footprint, rates[recipe.allocator], None, Schedule(), width).step_s


def here(case: Case) -> Case:
    """The case in fp32 on a CPU without bf16 instructions, where a step in bf16 takes minutes."""
    if this_machine().computes_bf16 or case.recipe.precision == "fp32":
        return case
    return replace(case, recipe=replace(case.recipe, precision="fp32", input_casting=True))


def measured_s(case: Case) -> list[float]:
    """Seconds of every step of a real run."""
    return [step.step_s for step in run(case.recipe, case.config, steps=STEPS).steps]


def row(case: Case, predicted: float, steps: Sequence[float]) -> dict[str, Any]:
    """One case; `error` is that of the prediction, as a share of the measurement."""
    measured = median(steps[1:])
    return {
        "case": case.name, "recipe": case.recipe.to_dict(), "config": dict(case.config), "predicted_s": predicted,
        "measured_s": measured, "steps_s": list(steps), "error": predicted / measured - 1,
    }  # fmt: skip


def summary(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Median |error|, Spearman's rank correlation, and the worst error to either side."""
    errors = [item["error"] for item in rows]
    return {
        "median_error": median(map(abs, errors)),
        "rank_correlation": rank_correlation(
            [item["predicted_s"] for item in rows], [item["measured_s"] for item in rows]
        ),
        "lowest_error": min(errors),
        "highest_error": max(errors),
    }


def rank_correlation(ones: Sequence[float], others: Sequence[float]) -> float:
    """Spearman's, of values without ties (`statistics.correlation` knows ranks since Python 3.12)."""
    return correlation(_ranks(ones), _ranks(others))


def _ranks(values: Sequence[float]) -> list[float]:
    order = sorted(range(len(values)), key=values.__getitem__)
    return [float(order.index(place)) for place in range(len(values))]


def table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """The most optimistic first."""
    view = Table("case", "predicted", "measured", "error", title="seconds of an optimizer step")
    for item in sorted(rows, key=lambda item: float(item["error"])):
        view.add_row(
            item["case"], f"{item['predicted_s']:.2f}", f"{item['measured_s']:.2f}", f"{item['error']:+.0%}"
        )
    return view


def main() -> None:
    """Measure, print, store."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", help="cases whose name contains this; stores nothing")
    parser.add_argument(
        "--again", action="store_true", help="predict anew for the stored runs; measure nothing"
    )
    options = parser.parse_args()
    os.chdir(Path(__file__).parents[1])
    chosen = [here(case) for case in TIMED if not options.only or options.only in case.name]
    if len(chosen) < 2:
        parser.error("a rank correlation takes two cases at least")
    console = Console()
    before = json.loads((RESULTS / "step_time.json").read_text(encoding="utf-8")) if options.again else {}
    rates = rates_of(before) if before else rates_now()
    known = {item["case"]: item["steps_s"] for item in before.get("rows", ())}
    rows = []
    for case, footprint in list(traced(chosen)):
        steps = known[case.name] if before else measured_s(case)
        rows.append(row(case, predicted_s(case, footprint, rates), steps))
        console.print(f"{case.name}: {rows[-1]['error']:+.0%}")
    console.print(table(rows))
    told = summary(rows)
    console.print(
        f"median |error| {told['median_error']:.0%}, rank correlation {told['rank_correlation']:.3f}"
    )
    if not options.only and not options.again:
        kept = {allocator: asdict(found) for allocator, found in rates.items()}
        console.print(f"stored in {store('step_time', rows, summary=told, rates=kept)}")


if __name__ == "__main__":
    main()
