"""What other estimators say of the T4's rows, beside ours: `python -m benchmarks.peers.compare`; needs a package index.

Each peer is installed into an environment of its own in a temporary folder. The quantity is the process's memory.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from statistics import mean
from typing import Any

from ..machine_info import RESULTS, store
from ..truth import DATA

HERE = Path(__file__).parent
PEERS = {"fitcheck": "fitcheck-llm==0.3.1", "vramcalc": "vramcalc==0.1.2"}
NOT_RUN = {
    "canifinetune 0.4.1": "not asked yet",
    "fitscout 0.1.1": "not asked yet",
    "accelerate estimate-memory": "reads its models from the hub; weights and Adam only, no activations",
    "DeepSpeed's estimators": "not asked yet: states of ZeRO only, no activations",
}


def asked(peer: str, requirement: str, lines: str) -> dict[str, int]:
    """The peer's predictions by row. Raises CalledProcessError where it can't be installed or run."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        python = str(Path(folder) / "bin" / "python")
        subprocess.run([python, "-m", "pip", "install", "-q", requirement], check=True)
        script = str(HERE / f"ask_{peer}.py")
        done = subprocess.run(
            [python, script], input=lines, text=True, check=True, capture_output=True, cwd=folder
        )
    predicted: dict[str, int] = json.loads(done.stdout)
    return predicted


def errors(predicted: Mapping[str, int], measured: Mapping[str, int]) -> dict[str, Any]:
    """In per cent of the measurement, of the rows that were predicted."""
    found = [100 * (predicted[name] / measured[name] - 1) for name in predicted]
    return {
        "rows": len(found), "mean": round(mean(map(abs, found)), 2),
        "lowest": round(min(found), 2), "highest": round(max(found), 2),
    }  # fmt: skip


def compared(answers: Mapping[str, Mapping[str, int]]) -> list[dict[str, Any]]:
    """Every peer's errors beside ours on the same rows."""
    stored = json.loads((RESULTS / "accuracy.json").read_text(encoding="utf-8"))["rows"]
    ours = {row["name"]: row["predicted"]["process"] for row in stored if "process" in row["measured"]}
    measured = {row["name"]: row["measured"]["process"] for row in stored if "process" in row["measured"]}
    found = []
    for peer, predicted in answers.items():
        for kind in ("none", "nf4"):
            names = [name for name in predicted if f"-{kind}-" in name]
            if names:
                theirs = errors({name: predicted[name] for name in names}, measured)
                same = errors({name: ours[name] for name in names}, measured)
                found.append({"peer": peer, "quantization": kind, "theirs": theirs, "ours": same})
    return found


def main() -> None:
    """Ask, print, store."""
    rows = (DATA / "t4.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    lines = "".join(line for line in rows if json.loads(line)["role"] == "calibration")
    answers = {PEERS[peer]: asked(peer, PEERS[peer], lines) for peer in PEERS}
    found = compared(answers)
    for part in found:
        sys.stdout.write(f"{json.dumps(part)}\n")
    store("peers", found, predicted=answers, not_run=NOT_RUN)


if __name__ == "__main__":
    main()
