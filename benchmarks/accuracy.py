"""Predicted against measured, for runs that we did not make: `python -m benchmarks.accuracy [--only TEXT]`.

Errors are two-sided, in per cent of the measurement; the worst under-prediction comes first.
"""

from __future__ import annotations

import argparse
import json
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import mean
from typing import Any

from rich.console import Console
from rich.table import Table

from lplan.planner.cuda import context_bytes, workspace_bytes
from lplan.planner.estimating import shape_of
from lplan.planner.footprint import Footprint
from lplan.planner.simulation import Surroundings, simulate
from lplan.planner.tracing.trace import trace

from .accounting import counts
from .machine_info import RESULTS, store
from .older import OlderAllocator, applied, with_an_early_handle
from .rows import Row
from .truth import every_row

READ = ("allocated", "reserved", "process")


@dataclass(frozen=True, slots=True)
class Result:
    """One row's prediction and error."""

    name: str
    group: str
    measured: Mapping[str, int]
    predicted: Mapping[str, int]
    model: str = ""
    differs: str = ""

    def error(self, what: str) -> float | None:
        """Per cent; None where it was not measured."""
        if what not in self.measured:
            return None
        return 100 * (self.predicted[what] / self.measured[what] - 1)


class Predictor:
    """Traces each graph once."""

    def __init__(self) -> None:
        self.known: list[tuple[Any, Footprint]] = []

    def predict(self, row: Row) -> Result:
        """Peaks of the row's run, without an end of memory, as it had."""
        shape = shape_of(row.recipe)
        footprint = self.footprint(row)
        workspace = workspace_bytes(row.gpu)
        around = Surroundings(
            workspace_bytes=workspace,
            warm_up=row.warm_up,
            untied_bytes=0,
            clears_cache=False,
        )
        # all of them ran on PyTorch 2.10 or older
        allocator = OlderAllocator(workspace, clears=row.clears)
        peaks = simulate(footprint, shape, around, allocator)
        reserved = max(peak.reserved_bytes for peak in peaks.values())
        predicted = {
            "allocated": max(peaks[name].allocated_bytes for name in row.steps),
            "reserved": reserved,
            "process": reserved + context_bytes(row.gpu),
            "loaded": peaks["wrap" if "wrap" in peaks else "load"].allocated_bytes,
        }
        return Result(row.name, row.group, row.measured, predicted, row.model, row.differs)

    def footprint(self, row: Row) -> Footprint:
        """Its graph, traced once."""
        shape, graph = shape_of(row.recipe), row.recipe.graph()
        key = (row.model, row.rules, graph)
        for known, footprint in self.known:
            if known == key and footprint.holds(shape):
                return footprint
        with applied(row.rules):
            footprint = with_an_early_handle(trace(row.config, row.recipe, shape))
        self.known.append((key, footprint))
        return footprint


def rows(only: str | None) -> Iterator[Row]:
    """All rows whose name or group has `only` in it."""
    for row in every_row():
        if only is None or only in row.name or only in row.group:
            yield row


def summary(results: Sequence[Result]) -> Table:
    """Errors by group, worst under-prediction first."""
    table = Table("rows", "n", title="error in % of the measurement: mean of |error| (lowest to highest)")
    for what in READ:
        table.add_column(what, justify="right")
    groups = {result.group: [r for r in results if r.group == result.group] for result in results}
    for name, members in sorted(groups.items(), key=lambda item: _lowest(item[1])):
        table.add_row(name, str(len(members)), *(_cell(members, what) for what in READ))
    return table


def accounted() -> Table:
    """How many of all collected rows were scored, and why others were not."""
    table = Table("collected in", "", "why, or what differs", title="every collected row")
    table.add_column("rows", justify="right")
    for part in (known := counts()):
        table.add_row(part["file"], part["class"], part["reason"], str(part["rows"]))
    table.add_row("", "", "", str(sum(part["rows"] for part in known)))
    return table


def _lowest(results: Iterable[Result]) -> float:
    return min(error for result in results for what in READ if (error := result.error(what)) is not None)


def _cell(results: Iterable[Result], what: str) -> str:
    errors = [error for result in results if (error := result.error(what)) is not None]
    if not errors:
        return ""
    return f"{mean(map(abs, errors)):.2f} ({min(errors):+.2f} to {max(errors):+.2f})"


def main() -> None:
    """Predict, print, store."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", help="rows whose name or group has this in it; others stay as stored")
    parser.add_argument("--rows", action="store_true", help="every row")
    chosen = parser.parse_args()
    warnings.filterwarnings("ignore")
    console, predictor = Console(), Predictor()
    results = [predictor.predict(row) for row in rows(chosen.only)]
    if chosen.rows:
        for result in sorted(results, key=lambda r: r.error("allocated") or 0):
            shown = "  ".join(
                f"{what} {error:+.2f}"
                for what in (*READ, "loaded")
                if (error := result.error(what)) is not None
            )
            console.print(f"{shown}  {result.name}", soft_wrap=True)
    console.print(summary(results))
    found = {result.name: asdict(result) for result in results}
    if chosen.only is not None:
        before = json.loads((RESULTS / "accuracy.json").read_text(encoding="utf-8"))["rows"]
        found = {row["name"]: row for row in before} | found
    console.print(accounted())
    console.print(f"stored in {store('accuracy', list(found.values()), accounting=counts())}")


if __name__ == "__main__":
    main()
