"""lplan beside a plain TRL script: tokens/s, peak memory, loss, share of the GEMM limit.

`python -m benchmarks.versus_trl [--model smollm2|tinyllama] [--data FOLDER] [--steps N]`, in an environment with trl
and datasets. All runs train on the same dialogues, one after the other, in this order: TRL, lplan, lplan starved to
0.4 of TRL's peak. All start at a learning rate of 2e-4 without warm-up and decay to zero over the run (TRL linearly,
lplan along a cosine), so that losses after the same tokens compare.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from lplan.planner.events import Metric, read
from lplan.trainer.data.readers import read_examples

from .checkpoints import checkpoint, tinyllama
from .gemm_limit import gemm_limit, linear_shapes, matmul_parameters, share_of_limit
from .machine_info import store
from .tinyllama_8g import lplan
from .trl_baseline import run_trl, write_prompt_completion

STARVED = 0.4


def ours(model: Path, data: str, budget_bytes: int, steps: int) -> dict[str, Any]:
    """One lplan run under a budget."""
    with tempfile.TemporaryDirectory() as folder:
        status, document = lplan(
            "fit-and-train", "--model", str(model), "--data", data, "--task", "banking77",
            "--ram", f"{budget_bytes // 2**20}M", "--max-steps", str(steps), "--warmup-steps", "0",
            "--output", f"{folder}/run",
        )  # fmt: skip
        if status or not document:
            raise RuntimeError(f"no plan fits {budget_bytes / 2**20:.0f} MiB")
        steps_done = [
            event for event in read(Path(folder) / "run" / "events.jsonl") if isinstance(event, Metric)
        ]
    return {
        "recipe": document["plan"]["recipe"],
        "rss_bytes": max(peak["rss_bytes"] for peak in document["measured"]),
        "anonymous_bytes": max(peak["anonymous_bytes"] for peak in document["measured"]),
        "tokens_per_s": median(step.tokens / step.step_s for step in steps_done[1:]),
        "steps": [{"tokens": s.tokens, "loss": s.loss, "step_s": s.step_s} for s in steps_done],
    }


def theirs(model: Path, data: str, steps: int, python: Path | None) -> dict[str, Any]:
    """One plain TRL run."""
    with tempfile.TemporaryDirectory() as folder:
        rows = Path(folder) / "train.jsonl"
        write_prompt_completion(read_examples(data, task="banking77").train, rows)
        result = run_trl(model, rows, steps, python)
    return {
        **result,
        "rss_bytes": result["process"]["rss_bytes"],
        "anonymous_bytes": result["process"]["anonymous_bytes"],
    }


def mean_loss(steps: Sequence[Mapping[str, Any]], tokens: int) -> float:
    """Mean loss of the last quarter of the steps up to a number of tokens."""
    seen, losses = 0, []
    for step in steps:
        seen += step["tokens"]
        if seen > tokens and losses:
            break
        losses.append(step["loss"])
    last = losses[-max(1, len(losses) // 4) :]
    return sum(last) / len(last)


def table(rows: Mapping[str, Mapping[str, Any]], config: Mapping[str, Any], title: str) -> Table:
    """Each run beside TRL's."""
    base = rows["TRL defaults"]
    tokens = min(sum(step["tokens"] for step in row["steps"]) for row in rows.values())
    limit = gemm_limit(linear_shapes(config), "bfloat16")
    view = Table("run", "tokens/s", "x TRL", "peak MiB", "x TRL", "loss", "of bf16 GEMM limit", title=title)
    for name, row in rows.items():
        view.add_row(
            name, f"{row['tokens_per_s']:.0f}", f"{row['tokens_per_s'] / base['tokens_per_s']:.2f}",
            f"{row['rss_bytes'] / 2**20:.0f}", f"{row['rss_bytes'] / base['rss_bytes']:.2f}",
            f"{mean_loss(row['steps'], tokens):.3f}",
            f"{share_of_limit(row['tokens_per_s'], matmul_parameters(config), False, limit):.0%}",
        )  # fmt: skip
    return view


def main() -> None:
    """Measure, print, store."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", choices=("smollm2", "tinyllama"), default="smollm2")
    parser.add_argument(
        "--data", default=os.environ.get("BANKING77", "demo"), help="Banking77's folder; default: demo"
    )
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument(
        "--trl-python", type=Path, help="an interpreter with trl and datasets; default: this one"
    )
    options = parser.parse_args()
    model = tinyllama(options.data) if options.model == "tinyllama" else checkpoint("smollm2-135m-instruct")
    rows = {"TRL defaults": theirs(model, options.data, options.steps, options.trl_python)}
    rows["lplan, 8 GiB"] = ours(model, options.data, 8 * 2**30, options.steps)
    starved_bytes = int(STARVED * rows["TRL defaults"]["rss_bytes"])
    rows[f"lplan, {starved_bytes / 2**20:.0f} MiB"] = ours(model, options.data, starved_bytes, options.steps)
    config = json.loads((model / "config.json").read_text(encoding="utf-8"))
    console = Console()
    console.print(table(rows, config, f"{options.model}, {options.steps} steps of 8 dialogues"))
    console.print(f"stored in {store(f'versus_trl_{options.model}', rows, data=Path(options.data).name)}")


if __name__ == "__main__":
    main()
