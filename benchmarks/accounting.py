"""Where every collected measurement went: scored, or not and why. `python -m benchmarks.accounting FOLDER`.

FOLDER has the whole collection, t4.jsonl and published.jsonl; tests/data has the rows that are scored. What became of
each is written to tests/data/accounting.json, by name.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from .rows import DATA, Row
from .truth import every_row

STOCK, OTHER, NOT = "scored, stock stack", "scored apart", "not scored"
CLASSES = (STOCK, OTHER, NOT)
TARGET = DATA / "accounting.json"

_REASONS: tuple[tuple[str, Callable[[Mapping[str, Any]], bool]], ...] = (
    ("one operator, not a run", lambda row: row["kind"].startswith("microbench")),
    ("no causal language model", lambda row: "encoder" in row["kind"] or "vision" in row["kind"]),
    ("several GPUs, which lplan does not plan for", lambda row: row["num_gpus"] > 1 or "8x" in (row["device"] or "")),
    ("DeepSpeed's ZeRO", lambda row: "DeepSpeed" in (row["framework"] or "") or "ds-" in row["method"]),
    ("contradicts itself: less than weights, gradients and states", lambda row: "INCONSIST" in row["notes"]),
    ("Unsloth's own kernels and checkpointing; lengths not stated", lambda row: "unsloth" in row["source"]),
    ("batch, length or dtype not stated", lambda row: not row["micro_batch"] or not row["seq_len"]),
    ("adapters other than LoRA", lambda row: "metamath" in row["id"]),
    ("DeepSpeed's ZeRO", lambda row: "QwenLM/Qwen " in row["source"] and row["method"] == "qlora"),
    ("own code from the hub, of a shape that no class has", lambda row: row["model"].startswith("THUDM/")),
    ("most reserved over lengths that vary (ms-swift's other tables)", lambda row: "ms-swift" in row["source"]),
    ("compiled; checkpointing not stated, or optimizer in backward", lambda row: "compile" in (row["kernels"] or "")),
)  # fmt: skip


def t4_reason(row: Mapping[str, Any]) -> str:
    """Why a row of the T4 collection is not scored."""
    if row["role"] == "repeat":
        return "the same recipe as a scored run, measured again"
    return (
        "copied by hand before their script recorded the model and what it did; left out by its authors too"
    )


def published_reason(row: Mapping[str, Any]) -> str:
    """Why a published row is not scored. Raises StopIteration for a row that nothing says anything about."""
    return next(reason for reason, holds in _REASONS if holds(row))


def account(
    rows: Iterable[Mapping[str, Any]], name: str, scored: Mapping[str, Row], why: Callable[..., str]
) -> list[dict[str, Any]]:
    """Rows' names by class and reason; `name` is the key of a row's name."""
    found: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        taken = scored.get(row[name])
        key = (NOT, why(row)) if taken is None else _class(taken)
        found.setdefault(key, []).append(row[name])
    ordered = sorted(found.items(), key=lambda item: (CLASSES.index(item[0][0]), item[0][1]))
    return [{"class": kind, "reason": reason, "rows": sorted(names)} for (kind, reason), names in ordered]


def _class(row: Row) -> tuple[str, str]:
    return (OTHER, row.differs) if row.differs else (STOCK, "")


def stored() -> dict[str, list[dict[str, Any]]]:
    """By file of the collection: classes, reasons, names."""
    known: dict[str, list[dict[str, Any]]] = json.loads(TARGET.read_text(encoding="utf-8"))
    return known


def counts() -> list[dict[str, Any]]:
    """How many rows of each file have each class and reason."""
    return [
        {"file": file, "class": part["class"], "reason": part["reason"], "rows": len(part["rows"])}
        for file, parts in stored().items()
        for part in parts
    ]


def main() -> None:
    """Classify and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="where t4.jsonl and published.jsonl are whole")
    folder = parser.parse_args().folder
    scored = {row.name: row for row in every_row()}
    found = {
        "t4.jsonl": account(_lines(folder / "t4.jsonl"), "run_id", scored, t4_reason),
        "published.jsonl": account(_lines(folder / "published.jsonl"), "id", scored, published_reason),
        "metamathqa.jsonl": account(_lines(DATA / "metamathqa.jsonl"), "id", scored, published_reason),
    }
    TARGET.write_text(json.dumps(found, indent=0) + "\n", encoding="utf-8")
    for part in counts():
        sys.stdout.write(f"{part['rows']:4d}  {part['file']}: {part['class']}  {part['reason']}\n")


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


if __name__ == "__main__":
    main()
