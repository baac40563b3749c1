"""Fits planner/data.toml to what benchmarks/tokenizing.py and data_workers.py stored: `python -m benchmarks.fit_data`.

What a sample, a message and a kept token take is not fitted: it follows from CPython's objects (docs/memory-model.md).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import mean, median
from typing import Any

import numpy as np

from lplan.planner.residuals import Residuals
from lplan.planner.texts import Texts
from lplan.planner.tokenizing import Costs

from . import data_workers, tokenizing
from .machine_info import RESULTS

TARGET = Path(__file__).parents[1] / "planner" / "data.toml"
DERIVED = {"sample_bytes": 216, "message_bytes": 56, "token_bytes": 5}
"""64-bit CPython 3.11, docs/memory-model.md."""
_TEXT = {"characters_per_token": 4.5, "string_bytes": 49}
"""Of English, by the tokenizers of SmolLM2 and Qwen (4.3 to 4.8); of an ASCII string beside its characters."""
_DOUBT_BYTES = 8_000_000
Row = Mapping[str, Any]


def fit(rows: Sequence[Row]) -> Costs:
    """Least squares in relative errors, in turns: which of a row's two moments is its peak follows from the costs."""
    known = {**DERIVED, **_files(rows), "process_bytes": _process(rows)}
    late = [row["data"] != tokenizing.DATA[0] for row in rows]
    for _ in range(20):
        found = Costs(**known, **_solved(rows, late))
        moved = [_is_late(row, found) for row in rows]
        if moved == late:
            break
        late = moved
    return found


def _solved(rows: Sequence[Row], late: Sequence[bool]) -> dict[str, float]:
    names = ("transformers_bytes", "entry_bytes", "entry_reading_bytes", "together_bytes")
    matrix, beyond = [], []
    for row, at_end in zip(rows, late, strict=True):
        texts, scale = Texts(**row["texts"]), row["measured_bytes"]
        own, entries = bool(texts.by_transformers), row["entries"]
        line = (own, entries * at_end, entries * (not at_end), texts.together * at_end)
        known = (
            texts.samples * DERIVED["sample_bytes"] + texts.messages * DERIVED["message_bytes"] + texts.text_bytes
        )  # fmt: skip
        known += texts.tokens * DERIVED["token_bytes"] * at_end + _process(rows) * (not own)
        matrix.append([value / scale for value in line])
        beyond.append((scale - known) / scale)
    solution, *_ = np.linalg.lstsq(np.array(matrix, dtype=float), np.array(beyond), rcond=None)
    return {name: float(round(value, 1)) for name, value in zip(names, solution, strict=True)}


def _is_late(row: Row, found: Costs) -> bool:
    texts = Texts(**row["texts"])
    made = texts.tokens * found.token_bytes + texts.together * found.together_bytes
    return made > row["entries"] * (found.entry_reading_bytes - found.entry_bytes)


def _process(rows: Sequence[Row]) -> float:
    """Right after the imports."""
    return float(median(row["imports_bytes"] for row in rows))


def _files(rows: Sequence[Row]) -> dict[str, float]:
    by_kind = {
        own: median(row["file_bytes"] for row in rows if row["texts"]["by_transformers"] is own)
        for own in {row["texts"]["by_transformers"] for row in rows}
    }
    plain = by_kind.get(False, 0)
    return {"process_file_bytes": plain, "transformers_file_bytes": by_kind.get(True, plain)}


def error(row: Row, found: Costs) -> float:
    """By what share the row's peak came out above its expected one."""
    texts = Texts(**row["texts"])
    expected = sum(found.of(texts, row["entries"], by_transformers=bool(texts.by_transformers)).values())
    return float(row["measured_bytes"] / expected - 1)


def left_out(rows: Sequence[Row]) -> dict[str, list[float]]:
    """By tokenizer, its rows' residuals under a fit to the others. The only one of its kind stays in."""
    found = {}
    for name in dict.fromkeys(row["tokenizer"] for row in rows):
        own = [row for row in rows if row["tokenizer"] == name]
        others = [row for row in rows if row["tokenizer"] != name]
        alone = own[0]["texts"]["by_transformers"] not in {row["texts"]["by_transformers"] for row in others}
        costs = fit(rows if alone else others)
        found[name] = [error(row, costs) for row in own]
    return found


def loader(rows: Sequence[Row]) -> dict[str, int]:
    """What is copied once, and what each worker of a DataLoader has: least squares, without trained tensors."""
    kept = [row for row in rows if row["kind"] == "loader" and row["workers"]]
    added = [row["added_bytes"] - data_workers.rewritten_bytes(row) for row in kept]
    return _line([row["workers"] for row in kept], added)


def workers(rows: Sequence[Row]) -> dict[str, float]:
    """What workers of `datasets` come to hold: a line through the most that each number of them held; and the least
    share of it that any held, with few samples for each."""
    kept = [row for row in rows if row["kind"] == "tokenizing"]
    most: dict[int, int] = {}
    for row in kept:
        most[row["workers"]] = max(most.get(row["workers"], 0), row["added_bytes"])
    line = _line(list(most), list(most.values()))
    least = min(
        row["added_bytes"] / (line["shared_bytes"] + row["workers"] * line["each_bytes"]) for row in kept
    )
    return {**line, "least_share": round(least, 2)}


def _line(numbers: Sequence[int], added: Sequence[float]) -> dict[str, int]:
    each, shared = np.polyfit(numbers, added, 1)
    return {"shared_bytes": round(float(shared)), "each_bytes": round(float(each))}


def render(stored: Row, parts: Mapping[str, Mapping[str, Any]]) -> str:
    """data.toml's new text."""
    lines = [
        "# Written by benchmarks/fit_data.py from benchmarks/results/{tokenizing,data_workers}.json. Bytes.",
        "# costs: the process, a tokenizer's entry, a sample, a message, a token kept and one of the portion at hand.",
        "# residuals: measured over expected, less one, of each tokenizer's worst row; left out of the fit.",
        "[origin]",
        f"date = {stored['date']}",
        f"rows = {len(stored['rows'])}",
        f"python = {json.dumps(stored['machine']['python'])}",
        f"versions = {json.dumps(' '.join(f'{k} {v}' for k, v in stored['versions'].items()))}",
    ]  # fmt: skip
    for name, values in parts.items():
        lines += ["", f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in values.items())]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Fit, say how well left-out rows are met, write."""
    stored, forked = (_stored(name) for name in (tokenizing.NAME, data_workers.NAME))
    rows = [row for row in stored["rows"] if row["data"] != tokenizing.WHOLE_FILE]
    found, apart = fit(rows), left_out(rows)
    worst = {name: round(max(errors, key=abs), 4) for name, errors in apart.items()}
    parts = {
        "costs": asdict(found),
        "residuals": {"tokenizers": list(worst), "worst": list(worst.values()), "doubt_bytes": _DOUBT_BYTES},
        "text": _TEXT,
        "loader": loader(forked["rows"]),
        "tokenizing_worker": workers(forked["rows"]),
    }
    errors = [error for own in apart.values() for error in own]
    half = Residuals(worst=tuple(worst.values()), doubt_bytes=0).spread().above
    sys.stdout.write(
        f"left out: {len(errors)} rows, mean |error| {mean(map(abs, errors)):.1%}, {min(errors):+.1%} to "
        f"{max(errors):+.1%}; range {half:.1%}\n"
    )
    TARGET.write_text(render(stored, parts), encoding="utf-8")


def _stored(name: str) -> Any:
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
