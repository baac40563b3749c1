"""What other estimators say of the stock stack's rows, beside ours: `python -m benchmarks.peers.compare`.

Needs a package index: each peer is installed into an environment of its own in a temporary folder. The quantity is a
T4's process, and an A100's tensors, as no more was read there; of peers that add a context or a margin to the tensors
it is then left out.
"""

from __future__ import annotations

import json
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from statistics import mean
from typing import Any

from ..machine_info import RESULTS, store
from .questions import measured, questions

HERE = Path(__file__).parent
PEERS = {
    "fitcheck": "fitcheck-llm==0.3.1", "vramcalc": "vramcalc==0.1.2", "canifinetune": "canifinetune==0.4.1",
    "fitscout": "fitscout==0.1.1", "accelerate": "accelerate==1.15.0", "deepspeed": "deepspeed==0.19.8",
}  # fmt: skip


WITH_TORCH = ("accelerate", "deepspeed")
"""These see the packages of this environment beside their own."""


@contextmanager
def installed(peer: str) -> Iterator[tuple[str, str]]:
    """A Python with the peer, and the script that asks it. Raises CalledProcessError where it can't be installed."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        python = str(Path(folder) / "bin" / "python")
        install = [python, "-m", "pip", "install", "-q"]
        if peer in WITH_TORCH:
            beside = Path(sysconfig.get_path("purelib", vars={"base": folder})) / "beside.pth"
            beside.write_text(sysconfig.get_path("purelib"), encoding="utf-8")
            subprocess.run([*install, "wheel"], check=True)
            install.append("--no-build-isolation")
        subprocess.run([*install, PEERS[peer]], check=True, capture_output=True, text=True)
        yield python, str(HERE / f"ask_{peer}.py")


def asked(peer: str, text: str) -> dict[str, int]:
    """The peer's predictions by row. Raises CalledProcessError where it can't be installed or run."""
    with installed(peer) as command:
        place = Path(command[0]).parents[1]
        done = subprocess.run(command, input=text, text=True, check=True, capture_output=True, cwd=place)
    predicted: dict[str, int] = json.loads(done.stdout.splitlines()[-1])
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
    rows = {row["name"]: row for row in stored}
    found = []
    for peer, predicted in answers.items():
        kinds: dict[str, list[str]] = {}
        for name in predicted:
            kinds.setdefault(rows[name]["group"].removesuffix(" sdpa").removesuffix(" eager"), []).append(
                name
            )
        for kind, names in sorted(kinds.items()):
            truth = {name: measured(rows[name]) for name in names}
            ours = {
                name: rows[name]["predicted"][
                    "process" if "process" in rows[name]["measured"] else "allocated"
                ]
                for name in names
            }
            theirs = errors({name: predicted[name] for name in names}, truth)
            found.append({"peer": peer, "rows": kind, "theirs": theirs, "ours": errors(ours, truth)})
    return found


def main() -> None:
    """Ask, print, store."""
    text = "".join(json.dumps(question) + "\n" for question in questions().values())
    answers: dict[str, dict[str, int]] = {}
    failed: dict[str, str] = {}
    for peer, requirement in PEERS.items():
        try:
            answers[requirement] = asked(peer, text)
        except subprocess.CalledProcessError as error:
            failed[requirement] = (error.stderr or str(error)).strip().splitlines()[-1]
    found = compared(answers)
    for part in found:
        sys.stdout.write(f"{json.dumps(part)}\n")
    for requirement, reason in failed.items():
        sys.stderr.write(f"{requirement} could not be asked: {reason}\n")
    store("peers", found, predicted=answers, not_run=failed)


if __name__ == "__main__":
    main()
