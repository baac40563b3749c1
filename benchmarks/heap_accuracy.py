"""Predicted against measured memory under glibc's default allocator: `python -m benchmarks.heap_accuracy`.

`--again` predicts anew for the stored runs, `--only TEXT` measures cases whose name contains it. Each row also holds
what planner/heap.py makes of the run's tensors, so that benchmarks/fit_heap.py needs no trace.
"""

from __future__ import annotations

import argparse
import json
import os
import random
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console

from lplan.planner.estimating import shape_of
from lplan.planner.heap import HeapUse, heap_use
from lplan.planner.recipe import Recipe
from lplan.planner.tracer import footprint
from lplan.trainer.data.encoding import EncodedSet

from .cases import ON_THE_HEAP, VARIED, Case
from .cpu_accuracy import again, compare, predict, profile, table
from .machine_info import RESULTS, store
from .real_run import Measured, samples, train_on

NAME = "heap_accuracy"
_STEPS = 4
"""The heap grows most in the first two, and hardly after the fourth."""


def varied(recipe: Recipe, vocabulary: int, count: int, seed: int = 0) -> EncodedSet:
    """`count` random samples, one as long as the recipe's and the others half as long on average."""
    generator = random.Random(seed)
    ids, marks, offsets = array("i"), bytearray(), array("q", [0])
    longest = recipe.seq_len - 1
    for number in range(count):
        drawn = round(generator.gauss(recipe.seq_len * 0.55, recipe.seq_len * 0.2))
        length = longest if number == 0 else max(4, min(longest, drawn))
        ids.extend(generator.randrange(vocabulary) for _ in range(length))
        marks.extend(position >= length - recipe.supervised_len for position in range(length))
        offsets.append(len(ids))
    return EncodedSet(ids=ids, marks=marks, offsets=offsets, truncated=0, dropped=0)


def run(case: Case) -> Measured:
    """One real run of a case."""
    make, batches = (varied, 2) if VARIED in case.name else (samples, 1)
    recipe, vocabulary = case.recipe, int(case.config["vocab_size"])
    return train_on(
        recipe, case.config, make(recipe, vocabulary, recipe.effective_batch * _STEPS),
        make(recipe, vocabulary, recipe.batch_size * batches, 1), model=None, steps=_STEPS,
    )  # fmt: skip


def row(case: Case, measured: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """A case run, or what was `measured` of it before, beside its prediction."""
    if measured is not None:
        return with_heap(again(measured, ON_THE_HEAP), case)
    return with_heap(compare(case, predict(profile(case), case.recipe), run(case)), case)


def with_heap(found: dict[str, Any], case: Case) -> dict[str, Any]:
    """The row with the tensors of its phases as the heap has them."""
    shape = shape_of(case.recipe)
    uses = heap_use(footprint(profile(case), case.recipe, shape), shape)
    return {**found, "heap": {phase: asdict(use) for phase, use in uses.items()}}


def uses(stored: Mapping[str, Any]) -> dict[str, HeapUse]:
    """The tensors of a row's phases."""
    return {phase: HeapUse(**use) for phase, use in stored["heap"].items()}


def inside(stored: Mapping[str, Any]) -> bool:
    """Whether the run's peak lies in its predicted range."""
    predicted = [phase["predicted"] for phase in stored["phases"].values()]
    low = max(phase["low_bytes"] for phase in predicted)
    return bool(low <= stored["measured_bytes"] <= max(phase["high_bytes"] for phase in predicted))


def say(rows: Sequence[Mapping[str, Any]]) -> str:
    """The errors of the rows' peaks in one line."""
    errors = [item["error"] for item in rows]
    mean = sum(map(abs, errors)) / len(errors)
    return (
        f"{len(rows)} runs: mean |error| {mean:.1%}, {min(errors):+.1%} to {max(errors):+.1%}, "
        f"{sum(map(inside, rows))} in their range"
    )


def main() -> None:
    """Measure, print, store."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", help="cases whose name contains this")
    parser.add_argument("--again", action="store_true", help="predict anew for the stored runs")
    options = parser.parse_args()
    os.chdir(Path(__file__).parents[1])
    path = RESULTS / f"{NAME}.json"
    before = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"rows": []}
    known = {item["case"]: item for item in before["rows"]}
    rows = []
    for case in ON_THE_HEAP:
        if options.again or (options.only and options.only not in case.name):
            if case.name in known:
                rows.append(row(case, known[case.name]) if options.again else known[case.name])
        else:
            rows.append(row(case))
    console = Console()
    console.print(table(rows))
    console.print(say(rows))
    if options.again:
        path.write_text(json.dumps({**before, "rows": rows}, indent=1) + "\n", encoding="utf-8")
    else:
        console.print(f"stored in {store(NAME, rows)}")


if __name__ == "__main__":
    main()
