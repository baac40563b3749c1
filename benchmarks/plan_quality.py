"""Is the plan the fastest? Its measured tokens/s beside the best of a grid that is measured completely, and beside TRL.

`python -m benchmarks.plan_quality [--models N] [--quick] [--data FOLDER]` on a machine that does nothing else. Six
cases: two models, each with room for all of the grid, for half and for a quarter of it. All runs train on the same
dialogues in the same optimizer steps, the longest first, so that tokens/s compare; the first step isn't counted. A run
of the grid fits a budget if its measured peak does, whatever lplan would have said of it: a plan that is too careful
loses here as one that is slow does. The winner of the grid and the plan are then measured once more, since the highest
of many is high by luck as well.

TRL knows no budget, so its runs are made once a model, without a limit: its defaults (fp32 on a CPU without bf16
instructions), and with Trainer's `auto_find_batch_size`, which starts from the same eight dialogues a batch. Where trl
isn't installed they are left out.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from lplan.planner.recipe import Recipe
from lplan.profiles.find import find_model
from lplan.profiles.units import parse_size
from lplan.trainer.data.encoding import EncodedSet
from lplan.trainer.data.readers import read_examples
from lplan.trainer.prepare import prepare_data

from .checkpoints import checkpoint, with_tokenizer
from .machine_info import store
from .real_run import job_of, train_on
from .tinyllama_8g import lplan
from .trl_baseline import run_trl, write_prompt_completion

MODELS = ("smollm2-135m-instruct", "llama-4-bf16")
"""Real weights, and random ones in TinyLlama's widths."""
ROOMY = "8G"
GRID: Mapping[str, Sequence[Any]] = {
    "batch_size": (1, 2, 4, 8),
    "checkpointing": ("none", "every-2", "full"),
    "loss": ("full", "supervised", "chunked"),
    "allocator": ("pinned", "default"),
}
QUICK: Mapping[str, Sequence[Any]] = {
    "batch_size": (2, 8),
    "checkpointing": ("none", "full"),
    "loss": ("supervised", "chunked"),
    "allocator": ("pinned", "default"),
}
STEPS = 4
_TASK = "banking77"
_NOTHING = EncodedSet(ids=array("i"), marks=bytearray(), offsets=array("q", [0]), truncated=0, dropped=0)


@dataclass(slots=True)
class Reached:
    """What the runs of one recipe reached. Steps are (tokens without padding, seconds)."""

    rss_bytes: int = 0
    steps: list[tuple[int, float]] = field(default_factory=list)

    @property
    def tokens_per_s(self) -> float:
        """Over all steps that count."""
        return sum(tokens for tokens, _ in self.steps) / sum(step_s for _, step_s in self.steps)


class Meter:
    """Real runs of one model on one data set; every recipe is run once, unless asked for again."""

    def __init__(self, model: Path, data: str) -> None:
        self.model = find_model(str(model))
        self._data = prepare_data(data, self.model, task=_TASK)
        self.known: dict[Recipe, Reached] = {}

    def measure(self, recipe: Recipe, *, again: bool = False) -> Reached:
        """What a recipe reaches. Raises RuntimeError with the log of a run that fails."""
        if recipe not in self.known or again:
            order = job_of(
                recipe, self.model.config, model=str(self.model.location), steps=STEPS,
                pad_token_id=self._data.pad_token_id, order_batch=recipe.effective_batch,
            )  # fmt: skip
            run = train_on(order, self._data.train, _NOTHING)
            reached = self.known.setdefault(recipe, Reached())
            reached.rss_bytes = max(reached.rss_bytes, run.peak_bytes)
            reached.steps += [(step.tokens, step.step_s) for step in run.steps[1:]]
        return self.known[recipe]


def grid(start: Recipe, values: Mapping[str, Sequence[Any]]) -> Iterator[Recipe]:
    """Every combination of the values, with the effective batch and all else of `start`."""
    for combination in product(*values.values()):
        knobs = dict(zip(values, combination, strict=True))
        yield replace(start, **knobs, accumulation=start.effective_batch // knobs["batch_size"])


def budgets(meter: Meter, points: Sequence[Recipe]) -> list[str]:
    """In MiB: where all of the grid fits, half of it, and a quarter."""
    peaks = sorted(meter.measure(recipe).rss_bytes for recipe in points)
    return [f"{-(-peaks[place] // 2**20)}M" for place in (-1, len(peaks) // 2, len(peaks) // 4)]


def plan(model: Path, data: str, budget: str) -> Recipe:
    """What lplan chooses. Raises RuntimeError where it finds nothing."""
    status, document = lplan("plan", "--model", str(model), "--data", data, "--task", _TASK, "--ram", budget)
    if status:
        raise RuntimeError(f"no plan of {model.name} fits {budget}")
    return Recipe.from_dict(document["recipe"])


def judged(meter: Meter, chosen: Recipe, budget: str, points: Sequence[Recipe]) -> dict[str, Any]:
    """The plan beside the best of the grid under a budget."""
    budget_bytes = parse_size(budget)
    meter.measure(chosen)
    fitting = [recipe for recipe in points if meter.measure(recipe).rss_bytes <= budget_bytes]
    best = max(fitting, key=lambda recipe: meter.measure(recipe).tokens_per_s, default=chosen)
    for recipe in {chosen, best}:
        meter.measure(recipe, again=True)
    reached, highest = meter.measure(chosen), meter.measure(best)
    return {
        "model": meter.model.id, "budget": budget, "plan": chosen.to_dict(), "plan_rss_bytes": reached.rss_bytes,
        "plan_tokens_per_s": reached.tokens_per_s, "best": best.to_dict(), "best_rss_bytes": highest.rss_bytes,
        "best_tokens_per_s": highest.tokens_per_s, "of_best": reached.tokens_per_s / highest.tokens_per_s,
        "grid": len(points), "fitting": len(fitting), "points": [_point(meter, recipe) for recipe in points],
    }  # fmt: skip


def _point(meter: Meter, recipe: Recipe) -> dict[str, Any]:
    reached = meter.measure(recipe)
    knobs = {knob: getattr(recipe, knob) for knob in GRID}
    return {**knobs, "rss_bytes": reached.rss_bytes, "tokens_per_s": reached.tokens_per_s}


def baselines(model: Path, data: str, python: Path, steps: int) -> dict[str, Any]:
    """TRL's defaults, and with auto_find_batch_size: tokens/s and peak. Nothing where trl isn't installed."""
    if subprocess.run([python, "-c", "import trl, datasets"], capture_output=True, check=False).returncode:
        return {}
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        rows = Path(folder) / "train.jsonl"
        write_prompt_completion(read_examples(data, task=_TASK).train, rows)
        for name, auto in (("defaults", False), ("auto_find_batch_size", True)):
            result = run_trl(model, rows, steps, python, auto_find_batch_size=auto)
            found[name] = {
                "tokens_per_s": result["tokens_per_s"],
                "rss_bytes": result["process"]["rss_bytes"],
                "settings": result["settings"],
                "versions": result["versions"],
            }
    return found


def table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """A case a line; how often as fast as TRL."""
    view = Table(
        "model", "budget", "plan", "tokens/s", "best", "share", "x TRL", "x auto", title="plans, measured"
    )
    for row in rows:
        trl = [row["trl"].get(name) for name in ("defaults", "auto_find_batch_size")]
        times = [f"{row['plan_tokens_per_s'] / other['tokens_per_s']:.2f}" if other else "" for other in trl]
        view.add_row(
            row["model"], row["budget"], _in_short(row["plan"]), f"{row['plan_tokens_per_s']:.0f}",
            f"{row['best_tokens_per_s']:.0f}: {_in_short(row['best'])}", f"{row['of_best']:.0%}", *times,
        )  # fmt: skip
    return view


def _in_short(recipe: Mapping[str, Any]) -> str:
    return " ".join(str(recipe[knob]) for knob in GRID)


def main() -> None:
    """Measure, print, store."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--models", type=int, default=len(MODELS), help="the first so many; fewer store nothing"
    )
    parser.add_argument(
        "--quick", action="store_true", help="a smaller grid: ten minutes, an hour without bf16"
    )
    parser.add_argument(
        "--data", default=os.environ.get("BANKING77", "demo"), help="Banking77's folder; default: demo"
    )
    parser.add_argument(
        "--trl-python", type=Path, default=Path(sys.executable), help="an interpreter with trl and datasets"
    )
    parser.add_argument(
        "--trl-steps", type=int, default=STEPS, help="optimizer steps of TRL's runs; the first isn't counted"
    )
    options = parser.parse_args()
    os.chdir(Path(__file__).parents[1])
    values = QUICK if options.quick else GRID
    console, rows = Console(), []
    for name in MODELS[: options.models]:
        model = with_tokenizer(name, options.data) if name.startswith("llama") else checkpoint(name)
        trl = baselines(model, options.data, options.trl_python, options.trl_steps)
        if not trl:
            console.print(f"{options.trl_python} has no trl: its runs are left out", soft_wrap=True)
        meter = Meter(model, options.data)
        points = list(grid(plan(model, options.data, ROOMY), values))
        for budget in budgets(meter, points):
            recipe = plan(model, options.data, budget)
            rows.append({**judged(meter, recipe, budget, points), "trl": trl})
            console.print(f"{name}, {budget}: {rows[-1]['of_best']:.0%} of the best of {rows[-1]['fitting']}")
    console.print(table(rows))
    if options.models >= len(MODELS):
        stored = store("plan_quality", rows, data=Path(options.data).name, quick=options.quick, steps=STEPS)
        console.print(f"stored in {stored}")


if __name__ == "__main__":
    main()
