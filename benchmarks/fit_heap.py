"""Fits planner/heap.toml to the stored runs of benchmarks/heap_accuracy.py: `python -m benchmarks.fit_heap`.

The range comes from the runs of each model under the shares of the others.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np

from lplan.planner.estimate import STEPS
from lplan.planner.heap import Fragmentation, HeapUse, doublings
from lplan.planner.residuals import Residuals

from .fit_intervals import family
from .heap_accuracy import NAME, say, uses
from .machine_info import RESULTS

TARGET = Path(__file__).parents[1] / "planner" / "heap.toml"
Row = Mapping[str, Any]


def heap_bytes(row: Row, phase: str) -> int:
    """How large the heap was."""
    return int(row["phases"][phase]["measured"]["rss_bytes"]) - around_bytes(row, phase)


def heap_of(row: Row, phase: str) -> HeapUse:
    """The tensors that the heap of a phase is made from."""
    return uses(row)[phase if phase in STEPS else STEPS[-1]]


def beside_bytes(row: Row) -> int:
    """What came and went beside the heap in the steps."""
    parts = row["phases"][STEPS[-1]]["predicted"]["components"]
    stays = parts.get("adapters", 0) + parts.get("optimizer", 0)
    return max(0, heap_of(row, STEPS[-1]).beside_bytes - int(stays))


def doubtful_bytes(row: Row, shares: Fragmentation) -> int:
    """What the range is a share of."""
    size = shares.size_bytes(STEPS[-1], heap_of(row, STEPS[-1]), chunked=_is_chunked(row))
    return size + beside_bytes(row)


def around_bytes(row: Row, phase: str) -> int:
    """The expected resident set without the heap: the process, the weights, and tensors that lie beside it."""
    parts = row["phases"][phase]["predicted"]["components"]
    process = parts["runtime"] + parts.get("weights", 0)
    if phase in uses(row):
        return int(process + uses(row)[phase].beside_bytes)
    return int(process + parts.get("adapters", 0) + parts.get("optimizer", 0))


def fit(rows: Sequence[Row]) -> Fragmentation:
    """The shares that meet these rows best: least squares in the residuals that make the range."""
    steady, chunks = _solved(rows, STEPS[-1], chunks=True)
    return Fragmentation(
        first_step=_solved(rows, STEPS[0])[0],
        steady_step=steady,
        after=_solved(rows, "save")[0],
        chunks=chunks,
    )


def _solved(rows: Sequence[Row], phase: str, *, chunks: bool = False) -> list[float]:
    matrix, beyond = [], []
    for row in rows:
        use, scale = heap_of(row, phase), _reached(row, STEPS[-1]) + beside_bytes(row)
        blocks = [use.largest_bytes * _is_chunked(row) / scale] if chunks else []
        matrix.append([use.heap_bytes * doublings(use) / scale, *blocks])
        beyond.append((_reached(row, phase) - use.heap_bytes) / scale)
    solution, *_ = np.linalg.lstsq(np.array(matrix), np.array(beyond), rcond=None)
    return [round(float(value), 4) for value in solution]


def _is_chunked(row: Row) -> bool:
    return bool(row["recipe"]["loss"] == "chunked")


def _reached(row: Row, phase: str) -> int:
    """The heap's size; in the steady step as large as in any step."""
    return max(heap_bytes(row, one) for one in (STEPS if phase == STEPS[-1] else (phase,)))


def expected_bytes(row: Row, shares: Fragmentation) -> int:
    """The run's expected peak with these shares: that of its steps."""
    return max(
        around_bytes(row, phase) + shares.size_bytes(phase, heap_of(row, phase), chunked=_is_chunked(row))
        for phase in STEPS
    )


def left_out(rows: Sequence[Row]) -> list[tuple[Row, Fragmentation]]:
    """Every run with the shares of the other models."""
    others = {model: fit([row for row in rows if family(row) != model]) for model in set(map(family, rows))}
    return [(row, others[family(row)]) for row in rows]


def spread(worst: Mapping[str, float]) -> float:
    """The half width of the range, as a share of the heap and what passes beside it."""
    return Residuals(worst=tuple(worst.values()), doubt_bytes=0).spread().above


def covered(rows: Sequence[Row]) -> list[bool]:
    """Whether each run lies within the range that models other than its own lead to, shares and all."""
    inside = []
    for row, shares in left_out(rows):
        half = spread(worst([other for other in rows if family(other) != family(row)])) * doubtful_bytes(
            row, shares
        )
        inside.append(abs(row["measured_bytes"] - expected_bytes(row, shares)) <= half)
    return inside


def worst(rows: Sequence[Row]) -> dict[str, float]:
    """Of each model the residual farthest from zero: what its steps held beyond their expected peak, as a share of
    the heap and what passed beside it."""
    found: dict[str, float] = {}
    for row, shares in left_out(rows):
        held = max(row["phases"][phase]["measured"]["rss_bytes"] for phase in STEPS)
        off = round((held - expected_bytes(row, shares)) / doubtful_bytes(row, shares), 4)
        found[family(row)] = max(found.get(family(row), 0.0), off, key=abs)
    return found


def render(stored: Row, shares: Fragmentation, doubt: Mapping[str, float]) -> str:
    """heap.toml's new text."""
    lines = [
        "# Written by benchmarks/fit_heap.py from benchmarks/results/heap_accuracy.json: glibc's default allocator.",
        "# fragmentation: beyond the most that ever lived in the heap, as its share by doubling of a step's tensors.",
        "# worst: each model's worst run, measured less expected by heap and what passed beside; model left out.",
        "[origin]",
        f"date = {stored['date']}",
        f"libc = {json.dumps(stored['machine']['libc'])}",
        f"runs = {len(stored['rows'])}",
        f"versions = {json.dumps(' '.join(f'{k} {v}' for k, v in stored['versions'].items()))}",
        "", "[fragmentation]", *(f"{name} = {value}" for name, value in asdict(shares).items()),
        "", "[doubt]", f"models = {json.dumps(list(doubt))}", f"worst = {json.dumps(list(doubt.values()))}",
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def main() -> None:
    """Fit, say how well left-out runs are met, write."""
    stored = json.loads((RESULTS / f"{NAME}.json").read_text(encoding="utf-8"))
    rows, shares = stored["rows"], fit(stored["rows"])
    doubt = worst(rows)
    errors = [expected_bytes(row, others) / row["measured_bytes"] - 1 for row, others in left_out(rows)]
    sys.stdout.write(
        f"as stored: {say(rows)}\n{asdict(shares)}\n"
        f"left out: mean |error| {mean(map(abs, errors)):.1%}, {min(errors):+.1%} to {max(errors):+.1%}, "
        f"within {spread(doubt):.0%} of the heap and what passes beside it, "
        f"{sum(covered(rows))} inside the others' range\n"
    )
    TARGET.write_text(render(stored, shares, doubt), encoding="utf-8")


if __name__ == "__main__":
    main()
