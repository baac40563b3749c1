"""How long an estimate takes, beside `accelerate estimate-memory` and fitcheck-llm, as whole processes.

`python -m benchmarks.speed`; fitcheck-llm needs a package index. The runs alternate; medians of wall-clock and of CPU
seconds. accelerate asks a hub for a model's configuration; here it asks one on this machine, which has the same
config.json; fitcheck-llm is told it. Bytecode is kept from a first round that doesn't count, as it is where a package
was installed. Evaluations a second are benchmarks/search_speed.py's.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from lplan.planner.store import CACHE_VARIABLE
from lplan.profiles.find import find_model

from .local_hub import local_hub
from .machine_info import store
from .peers.compare import installed
from .peers.questions import questions

ROUNDS = 5
_MODEL = "TinyLlama/TinyLlama-1.1B-Chat-v1.0"
_IMPORTS = (
    "import torch; from transformers import AutoModelForCausalLM, Trainer; from peft import get_peft_model"
)
_NEW = {
    "model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 8192, "intermediate_size": 28_416,
    "num_hidden_layers": 80, "num_attention_heads": 64, "num_key_value_heads": 8, "vocab_size": 128_512,
    "max_position_embeddings": 8192, "rms_norm_eps": 1e-5, "tie_word_embeddings": False, "hidden_act": "silu",
}  # fmt: skip
_ACCELERATE = (
    "import sys; from accelerate.commands.estimate import main; sys.argv = ['estimate', sys.argv[1]]; main()"
)


@dataclass(frozen=True, slots=True)
class Run:
    """A command to be timed."""

    command: Sequence[str]
    environment: Mapping[str, str]
    told: str = ""
    """On stdin."""


def timed(run: Run) -> dict[str, Any]:
    """Seconds of one process."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.perf_counter()
    done = subprocess.run(
        run.command, env=run.environment, input=run.told, capture_output=True, text=True, check=False
    )
    wall_s = time.perf_counter() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "wall_s": wall_s,
        "cpu_s": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        "ok": done.returncode == 0,
        "said": done.stderr.strip().splitlines()[-1:] if done.returncode else [],
    }


def runs(hub: str, cold: Path, root: Path, fitcheck: Sequence[str]) -> dict[str, Run]:
    """What is compared, by name; `cold` is a folder that nothing knows yet."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    kept["PYTHONPYCACHEPREFIX"] = str(root / "bytecode")
    estimate = [sys.executable, "-m", "lplan", "estimate", "--model"]
    first, again = ({**kept, CACHE_VARIABLE: str(folder)} for folder in (cold, root / "warm"))
    accelerate = {**kept, "HF_ENDPOINT": hub, "HF_HOME": str(cold), "HF_HUB_OFFLINE": "0"}
    return {
        "lplan estimate, cached": Run([*estimate, "tinyllama", "--ram", "8G"], again),
        "lplan estimate, first": Run([*estimate, "tinyllama", "--ram", "8G"], first),
        "accelerate estimate-memory": Run([sys.executable, "-c", _ACCELERATE, _MODEL], accelerate),
        "fitcheck-llm": Run(fitcheck, kept, _question()),
        "lplan estimate, new 70B, CPU": Run([*estimate, _new(root), "--ram", "400G"], first),
        "lplan estimate, new 70B, H200": Run(
            [*estimate, _new(root), "--hardware", "h200", "--method", "qlora"], first
        ),
        "the imports of those two": Run([sys.executable, "-c", _IMPORTS], kept),
    }


def _question() -> str:
    """One row, as the peers are asked for all of them."""
    return json.dumps(next(row for row in questions().values() if row["method"] != "full")) + "\n"


def _new(root: Path) -> str:
    """A model of 80 layers in a shape that nobody has traced."""
    folder = root / "new-70b"
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(_NEW), encoding="utf-8")
    return str(folder)


def main() -> None:
    """Measure, print, store."""
    console = Console()
    rows: dict[str, list[dict[str, Any]]] = {}
    with (
        tempfile.TemporaryDirectory() as name,
        local_hub(_MODEL, find_model("tinyllama").config) as hub,
        installed("fitcheck") as fitcheck,
    ):
        root = Path(name)
        for number in range(ROUNDS + 1):
            for what, run in runs(hub, root / f"cold{number}", root, fitcheck).items():
                result = timed(run)
                if number:
                    rows.setdefault(what, []).append(result)
    console.print(_table(rows))
    console.print(f"stored in {store('speed', rows)}")


def _table(rows: Mapping[str, Sequence[Mapping[str, Any]]]) -> Table:
    wall = {what: median(row["wall_s"] for row in results) for what, results in rows.items()}
    imports = wall["the imports of those two"]
    view = Table(
        "what",
        "wall s",
        "CPU s",
        "of accelerate",
        "of fitcheck",
        "beyond imports",
        title="whole processes, medians",
    )
    for what, results in rows.items():
        ratios = (wall[what] / wall[peer] for peer in ("accelerate estimate-memory", "fitcheck-llm"))
        note = "" if all(row["ok"] for row in results) else f" ({results[0]['said']})"
        beyond = f"{wall[what] - imports:.1f} s" if "70B" in what else ""
        view.add_row(
            what, f"{wall[what]:.2f}", f"{median(row['cpu_s'] for row in results):.2f}",
            *(f"{ratio:.0%}" for ratio in ratios), beyond + note,
        )  # fmt: skip
    return view


if __name__ == "__main__":
    main()
