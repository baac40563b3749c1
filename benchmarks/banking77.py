"""Banking77 in earnest: SmolLM2-135M-Instruct learns to name the intent of a bank customer's message, on a CPU.

`python -m benchmarks.banking77 --data FOLDER [--minutes 20] [--samples 300]`, with Banking77's train.csv and
test.csv in FOLDER. lplan plans for the memory given and trains one pass over the training split (a tenth of
train.csv is held out), or as many steps as the plan expects within the minutes. Then `lplan evaluate` scores the
77 intents as answers to evenly spread messages of test.csv, before and after, and asks the general knowledge. At
last TRL's defaults (fp32 on a CPU without bf16 instructions) take a few steps on the same dialogues, for their tokens
a second and memory. The task's short template and defaults are those of trainer/data/banking77-intents.toml.

Budget, CPU only: --minutes of training as planned, a tenth of that for the run's own evaluation, some 5 minutes for
300 messages (13 in fp32 without bf16 instructions), and half a minute for TRL's steps.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from lplan.planner.evaluation import Evaluated, Share, read_evaluation
from lplan.planner.events import Metric, Phase, read
from lplan.profiles.machine import this_machine
from lplan.report.evaluation import evaluation_view
from lplan.trainer.data.readers import read_examples

from .checkpoints import checkpoint
from .machine_info import store
from .tinyllama_8g import lplan
from .trl_baseline import run_trl, write_prompt_completion

TASK = "banking77-intents"
_KNOBS = ("--loss", "supervised", "--batch-size", "8", "--effective-batch", "8", "--checkpointing", "none")


def run(model: Path, data: Path, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Plan, train and evaluate in a run folder; what came out."""
    words = [
        "--model",
        str(model),
        "--data",
        str(data),
        "--task",
        TASK,
        "--ram",
        options.ram,
        "--epochs",
        "1",
    ]
    words += [*_KNOBS, "--threads", str(options.threads), "--learning-rate", str(options.learning_rate)]
    words += ["--rank", str(options.rank), "--alpha", str(2 * options.rank)]
    words += ["--precision", options.precision or usual_precision()]
    planned = _document("plan", *words)["time"]
    steps = min(planned["steps"], int(60 * options.minutes / planned["step_s"]))
    steps = min(steps, options.max_steps or steps)
    began_s = time.monotonic()
    trained = _document("fit-and-train", *words, "--max-steps", str(steps), "--output", str(folder))
    trained_s = time.monotonic() - began_s
    _document("evaluate", str(folder), "--samples", str(options.samples))
    metrics = [event for event in read(folder / "events.jsonl") if isinstance(event, Metric)]
    return {
        "recipe": trained["plan"]["recipe"],
        "schedule": trained["plan"]["schedule"],
        "steps": len(metrics),
        "examples": len(metrics) * trained["plan"]["recipe"]["batch_size"],
        "tokens": sum(step.tokens for step in metrics),
        "tokens_per_s": sum(s.tokens for s in metrics) / sum(s.step_s for s in metrics),
        "planned_tokens_per_s": planned["tokens_per_s"],
        "training_s": sum(step.step_s for step in metrics),
        "run_s": trained_s,
        "memory": _memory(trained),
        "short_evaluation_s": _short_evaluation_s(folder),
        "losses": [step.loss for step in metrics],
        "evaluation": read_evaluation(folder).document(),
    }


def usual_precision() -> str:
    """bf16 where the CPU has instructions for it."""
    return "bf16" if this_machine().computes_bf16 else "fp32"


def _document(*words: str) -> Any:
    status, document = lplan(*words)
    if status or not document:
        raise RuntimeError(f"lplan {words[0]} ended with status {status}")
    return document


def _memory(trained: Any) -> list[dict[str, Any]]:
    predicted = {phase["name"]: phase["peak"] for phase in trained["plan"]["estimate"]["phases"]}
    return [
        {"phase": peak["name"], "measured_bytes": peak["rss_bytes"], **predicted[peak["name"]]}
        for peak in trained["measured"]
        if peak["name"] in predicted  # the rehearsal is no phase of a plan
    ]


def _short_evaluation_s(folder: Path) -> float | None:
    """Seconds of the evaluation after the adapter was saved."""
    last = [event.t_s for event in read(folder / "events.jsonl") if isinstance(event, Phase)]
    end = [event.t_s for event in read(folder / "events.jsonl")]
    return round(end[-1] - last[-1], 1) if last else None


def trl(model: Path, data: Path, steps: int, python: Path | None) -> dict[str, Any]:
    """TRL's defaults on the same dialogues."""
    with tempfile.TemporaryDirectory() as folder:
        rows = Path(folder) / "train.jsonl"
        write_prompt_completion(read_examples(str(data), task=TASK).train, rows)
        result = run_trl(model, rows, steps, python)
    return {
        "rss_bytes": result["process"]["rss_bytes"],
        "wall_s": result["process"]["wall_s"],
        **{name: result[name] for name in ("tokens_per_s", "steps", "settings", "versions")},
    }


def table(row: dict[str, Any], evaluated: Evaluated) -> Table:
    """What a reader wants to know, a line each."""
    view = Table("Banking77, SmolLM2-135M-Instruct on a CPU", "", title=None)
    scored, memory = evaluated.scored, max(row["memory"], key=lambda phase: phase["measured_bytes"])
    assert scored is not None
    view.add_row(
        "training",
        f"{row['training_s'] / 60:.1f} min, {row['examples']:,} examples, {row['tokens']:,} tokens",
    )
    if scored.before is not None:
        view.add_row("intent accuracy before", _percent(scored.before))
    view.add_row("intent accuracy after", _percent(scored.after))
    knowledge = evaluated.knowledge
    if knowledge is not None and knowledge.before is not None:
        view.add_row("general knowledge before", _percent(knowledge.before))
        view.add_row("general knowledge after", _percent(knowledge.after))
    measured, expected = memory["measured_bytes"], max(phase["expected_bytes"] for phase in row["memory"])
    view.add_row("peak memory", f"{measured / 2**30:.2f} GiB measured, {expected / 2**30:.2f} planned")
    view.add_row("tokens/s", f"{row['tokens_per_s']:.0f} measured, {row['planned_tokens_per_s']:.0f} planned")
    if row.get("trl"):
        gib = row["trl"]["rss_bytes"] / 2**30
        view.add_row("TRL's defaults", f"{row['trl']['tokens_per_s']:.0f} tokens/s, {gib:.2f} GiB")
    return view


def _percent(share: Share) -> str:
    return f"{100 * share.share:.1f} % of {share.of} (95 %: {100 * share.low:.1f} to {100 * share.high:.1f})"


def main() -> None:
    """Measure, print, store."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data", type=Path, required=True, help="a folder with Banking77's train.csv and test.csv"
    )
    parser.add_argument(
        "--model", type=Path, help="a checkpoint's folder; default: the demo model, made on first use"
    )
    parser.add_argument("--minutes", type=float, default=20.0, help="of training, as planned")
    parser.add_argument("--samples", type=int, default=300, help="messages of test.csv")
    parser.add_argument("--max-steps", type=int, help="for trials; such a run is not stored")
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--ram", default="4G")
    parser.add_argument("--precision", help="default: bf16 where the CPU has instructions for it, else fp32")
    parser.add_argument(
        "--trl-steps",
        type=int,
        default=3,
        help="steps of TRL's defaults, of which the first does not count; 0 leaves them out (3)",
    )
    parser.add_argument(
        "--trl-python", type=Path, help="an interpreter with trl and datasets; default: this one"
    )
    parser.add_argument("--output", type=Path, help="keep the run folder here")
    options = parser.parse_args()
    model = options.model or checkpoint("smollm2-135m-instruct")
    console = Console()
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.output or Path(scratch) / "run"
        row = run(model, options.data, folder, options)
        evaluated = read_evaluation(folder)
    if options.trl_steps:
        console.print(f"{options.trl_steps} steps of TRL's defaults")
        row["trl"] = trl(model, options.data, options.trl_steps, options.trl_python)
    console.print(evaluation_view(evaluated))
    console.print(table(row, evaluated))
    if not options.max_steps:
        console.print(f"stored in {store('banking77', row)}")


if __name__ == "__main__":
    main()
