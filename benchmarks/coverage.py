"""Every model type of AutoModelForCausalLM, trained small and traced: `python -m benchmarks.coverage`.

The real libraries take a real step on the CPU with tensors that have contents; the trace of the same configuration
has none. Live bytes are compared at the peak of each phase, and an extrapolated footprint with a whole trace.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import time
import traceback
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from lplan.planner.footprint import Footprint
from lplan.planner.polynomial import Shape
from lplan.planner.recipe import ALL_LINEAR, Recipe
from lplan.profiles.errors import LplanError, first_line

from .machine_info import RESULTS, store
from .small_models import small_config

SHAPE = Shape(batch=3, seq=48, supervised=100, chunk=32)
LIMIT_S = 150
"""For one type: a real step, a trace, and two of a deeper stack."""
TOLERANCE_PERCENT = 1.0

_ATTEMPTS: Mapping[str, Mapping[str, Any]] = {
    "LoRA on all linears": {"target_modules": ALL_LINEAR},
    "LoRA on all linears, no dropout": {"target_modules": ALL_LINEAR, "dropout": 0.0},
    "LoRA on all linears, fp32": {"target_modules": ALL_LINEAR, "precision": "fp32", "dropout": 0.0},
    "LoRA on attention": {},
    "LoRA on attention, fp32": {"precision": "fp32"},
    "full": {"method": "full"},
    "full, fp32": {"method": "full", "precision": "fp32"},
}
"""How a type is trained: the first of these that the real libraries do."""


@dataclass(frozen=True, slots=True)
class Row:
    """What became of one model type."""

    model_type: str
    trained: str | None = None
    """How the real libraries train it; None where they do not."""
    reason: str | None = None
    """Why the real libraries do not train it, or why it is not estimated."""
    estimated: bool = False
    error_percent: Mapping[str, float] = field(default_factory=dict)
    """Traced live bytes against real ones at the peak of each phase."""
    depth: str = ""
    """How the deeper stack was traced."""
    deeper_agrees: bool | None = None
    """Whether what was extrapolated equals a whole trace; None where the stack was traced whole."""
    seconds: float = 0.0

    @property
    def worst_percent(self) -> float:
        """The largest error of any phase, without its sign."""
        return max(map(abs, self.error_percent.values()), default=float("inf"))

    @property
    def parity(self) -> str:
        """The largest error in words."""
        if not self.error_percent:
            return ""
        if self.worst_percent == 0:
            return "exact"
        if self.worst_percent <= TOLERANCE_PERCENT:
            return f"within 1 % ({max(self.error_percent.values(), key=abs):+.3f})"
        return f"{max(self.error_percent.values(), key=abs):+.2f} %"


def examine(model_type: str, say: Callable[[Row], object] = lambda row: None) -> Row:
    """Train it, trace it, compare. `say` hears of every part that was completed."""
    began = time.perf_counter()
    row, recipe, real = _trained(Row(model_type))
    if recipe is not None:
        say(replace(row, reason="no trace within the time limit"))
        try:
            row = _compared(row, recipe, real)
            say(row)
            row = _deepened(row, recipe)
        except Exception as error:
            row = replace(row, reason=_why(error))
    return replace(row, seconds=round(time.perf_counter() - began, 1))


def recipe_of(trained: str) -> Recipe:
    """The recipe that a row's `trained` names."""
    return Recipe(**{"rank": 4, "accumulation": 1, **_ATTEMPTS[trained]}).graph()


def _trained(row: Row) -> tuple[Row, Recipe | None, Mapping[str, int]]:
    """The first attempt that works, and its real peaks; else the reason why the first did not."""
    from .side_by_side import real_peaks

    reasons: list[str] = []
    for name in _ATTEMPTS:
        recipe = recipe_of(name)
        try:
            real = real_peaks(small_config(row.model_type), recipe, SHAPE)
        except Exception as error:
            reasons.append(_why(error))
        else:
            return replace(row, trained=name), recipe, real
    return replace(row, reason=reasons[-1]), None, {}


def _compared(row: Row, recipe: Recipe, real: Mapping[str, int]) -> Row:
    from lplan.planner.tracing.trace import trace

    traced = trace(small_config(row.model_type), recipe, SHAPE)
    errors = {phase: 100 * (_total(traced, phase) / size - 1) for phase, size in real.items()}
    return replace(row, estimated=True, error_percent=errors)


def _deepened(row: Row, recipe: Recipe) -> Row:
    from lplan.planner.tracing.trace import planned_depth, trace, trace_whole

    config = small_config(row.model_type, deeper=True)
    if (planned := planned_depth(config, recipe)).whole:
        return replace(row, depth=f"all {planned.layers}")
    found = trace(config, recipe, SHAPE)
    if found.traced_layers == found.layers:
        return replace(row, depth=f"all {found.layers}")
    whole = trace_whole(config, recipe, SHAPE)
    return replace(
        row,
        depth=f"{found.traced_layers} of {found.layers}",
        deeper_agrees=all(_total(found, phase) == _total(whole, phase) for phase in found.phases),
    )


def _total(footprint: Footprint, phase: str) -> int:
    return sum(footprint.peak(phase, SHAPE).values())


def _why(error: Exception) -> str:
    """The error in one line, with the place that raised it where it is not lplan's own word."""
    if isinstance(error, LplanError) and error.__cause__ is None:
        return str(error)
    cause = error.__cause__ if isinstance(error, LplanError) else error
    assert isinstance(cause, Exception)
    place = traceback.extract_tb(cause.__traceback__)[-1]
    return f"{first_line(cause)} ({Path(place.filename).name}, {place.name})"


def examine_apart(model_type: str, limit_s: float) -> Row:
    """`examine` in a process of its own, for at most `limit_s` seconds."""
    began = time.perf_counter()
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=_send, args=(model_type, sender))
    child.start()
    sender.close()
    row = Row(model_type, reason=f"no step within {limit_s:g} s")
    with suppress(EOFError):
        while receiver.poll(max(0.0, began + limit_s - time.perf_counter())):
            row = receiver.recv()
    child.kill()
    child.join()
    return row if row.seconds else replace(row, seconds=round(time.perf_counter() - began, 1))


def _send(model_type: str, sender: Any) -> None:
    sender.send(examine(model_type, sender.send))


def table(rows: Iterable[Row]) -> Table:
    """One line a type."""
    drawn = Table("type", "trained", "estimated", "parity", "deeper", "s", "reason")
    for row in rows:
        agrees = {None: "", True: ", agrees", False: ", DIFFERS"}[row.deeper_agrees]
        drawn.add_row(
            row.model_type, row.trained or "no", "yes" if row.estimated else "no", row.parity,
            row.depth + agrees, f"{row.seconds:.1f}", row.reason or "",
        )  # fmt: skip
    return drawn


def summary(rows: Sequence[Row]) -> dict[str, int]:
    """How many types the real libraries train, and how many of those are estimated and how well."""
    trainable = [row for row in rows if row.trained]
    return {
        "types": len(rows),
        "trainable": len(trainable),
        "estimated": sum(row.estimated for row in trainable),
        "within_1_percent": sum(row.worst_percent <= TOLERANCE_PERCENT for row in trainable),
        "exact": sum(row.worst_percent == 0 for row in trainable),
        "extrapolated": sum(row.deeper_agrees is not None for row in trainable),
        "extrapolated_differently": sum(row.deeper_agrees is False for row in trainable),
    }


def main() -> None:
    """Examine, print, store."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", metavar="TYPE", help="these types; the other stored rows stay")
    parser.add_argument("--limit", type=float, default=LIMIT_S, metavar="S", help="seconds for one type")
    parser.add_argument(
        "--rows", type=Path, metavar="FILE",
        help="append every finished row to FILE, and take over those that it holds: a run that was cut off goes on",
    )  # fmt: skip
    chosen = parser.parse_args()
    _quiet()
    console = Console()
    known = {row.model_type: row for row in stored_rows()} if chosen.only else {}
    finished = _finished(chosen.rows)
    for model_type in chosen.only or MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        row = finished.get(model_type)
        if row is None:
            row = examine_apart(model_type, chosen.limit)
            _note(row, chosen.rows)
        known[model_type] = row
        console.print(
            f"{model_type}: {row.trained or 'not trained'}; {row.parity}; {row.depth}; {row.reason or ''}"
        )
    rows = [known[model_type] for model_type in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES if model_type in known]
    console.print(table(rows))
    counts = summary(rows)
    console.print(
        f"trainable by the real libraries: {counts['trainable']} of {counts['types']}; "
        f"estimated: {counts['estimated']} of {counts['trainable']}; "
        f"parity within 1 %: {counts['within_1_percent']}, exact: {counts['exact']}"
    )
    console.print(f"stored in {store('coverage', [asdict(row) for row in rows], summary=counts)}")


def _finished(path: Path | None) -> dict[str, Row]:
    """The rows that a run before this one appended to `path`, by type."""
    if path is None or not path.exists():
        return {}
    rows = (Row(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines())
    return {row.model_type: row for row in rows}


def _note(row: Row, path: Path | None) -> None:
    if path is not None:
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(row)) + "\n")


def stored_rows() -> list[Row]:
    """The rows of benchmarks/results/coverage.json; none where it is missing."""
    path = RESULTS / "coverage.json"
    return [Row(**row) for row in json.loads(path.read_text())["rows"]] if path.exists() else []


def _quiet() -> None:
    import peft
    import torch
    import transformers

    from lplan.planner.tracing import trace

    del peft, trace  # imported once, for every child
    warnings.filterwarnings("ignore")
    transformers.logging.set_verbosity_error()
    torch.set_num_threads(1)


if __name__ == "__main__":
    main()
