"""How long an estimate takes, beside `accelerate estimate-memory` for the same model, as whole processes.

`python -m benchmarks.speed`. The runs alternate; medians of wall-clock and of CPU seconds. accelerate asks a hub for
a model's configuration; here it asks one on this machine, which has the same config.json. Bytecode is kept from a first
round that doesn't count, as it is where a package was installed.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from lplan.profiles.find import find_model

from .local_hub import local_hub
from .machine_info import store

ROUNDS = 5
_MODEL = "TinyLlama/TinyLlama-1.1B-Chat-v1.0"
_ACCELERATE = (
    "import sys; from accelerate.commands.estimate import main; sys.argv = ['estimate', sys.argv[1]]; main()"
)


def timed(command: list[str], environment: dict[str, str]) -> dict[str, Any]:
    """Seconds of one process."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.perf_counter()
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    wall_s = time.perf_counter() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "wall_s": wall_s,
        "cpu_s": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        "ok": run.returncode == 0,
        "said": run.stderr.strip().splitlines()[-1:] if run.returncode else [],
    }


def commands(hub: str, cold: Path, warm: Path, bytecode: Path) -> dict[str, tuple[list[str], dict[str, str]]]:
    """What is compared: name, command, environment."""
    estimate = [sys.executable, "-m", "lplan", "estimate", "--model", "tinyllama", "--ram", "8G"]
    surroundings = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    surroundings["PYTHONPYCACHEPREFIX"] = str(bytecode)
    imports = "import torch; from transformers import AutoModelForCausalLM, Trainer; from peft import get_peft_model"
    return {
        "lplan estimate, cached": (estimate, {**surroundings, "LPLAN_CACHE": str(warm)}),
        "lplan estimate, first": (estimate, {**surroundings, "LPLAN_CACHE": str(cold)}),
        "the imports alone": ([sys.executable, "-c", imports], surroundings),
        "accelerate estimate-memory": (
            [sys.executable, "-c", _ACCELERATE, _MODEL],
            {**surroundings, "HF_ENDPOINT": hub, "HF_HOME": str(cold), "HF_HUB_OFFLINE": "0"},
        ),
    }


def main() -> None:
    """Measure, print, store."""
    console = Console()
    rows: dict[str, list[dict[str, Any]]] = {}
    with tempfile.TemporaryDirectory() as name, local_hub(_MODEL, find_model("tinyllama").config) as hub:
        root = Path(name)
        for number in range(ROUNDS + 1):
            places = root / f"cold{number}", root / "warm", root / "bytecode"
            for what, command in commands(hub, *places).items():
                result = timed(*command)
                if number:
                    rows.setdefault(what, []).append(result)
    base = median(row["wall_s"] for row in rows["accelerate estimate-memory"])
    view = Table("what", "wall s", "CPU s", "of accelerate", title="TinyLlama, whole processes, medians")
    for what, results in rows.items():
        wall_s, cpu_s = (median(row[key] for row in results) for key in ("wall_s", "cpu_s"))
        note = "" if all(row["ok"] for row in results) else f" ({results[0]['said']})"
        view.add_row(what, f"{wall_s:.2f}", f"{cpu_s:.2f}", f"{wall_s / base:.0%}{note}")
    console.print(view)
    console.print(f"stored in {store('speed', rows)}")


if __name__ == "__main__":
    main()
