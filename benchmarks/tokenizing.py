"""What reading and tokenizing take, predicted against measured: `python -m benchmarks.tokenizing`.

Each row is a process of its own that does what `lplan plan --data` does before it plans: five tokenizers, six data
sets. `--again` predicts anew for the stored rows, `--only TEXT` measures those whose names contain it.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from lplan.planner.texts import Texts
from lplan.planner.tokenizing import tokenizing
from lplan.trainer.data.readers import read_examples

from .machine_info import RESULTS, store
from .real_tokenizers import NAMES, tokenizer_folder

NAME = "tokenizing"
WHOLE_FILE = "50,000 pairs in one JSON array"
"""Held in memory as a text, and again as objects: beyond what is predicted."""
_MEASURE = """
import json, sys
from dataclasses import asdict
import lplan.cli, lplan.commands.plan, lplan.commands.shared
from lplan.profiles.find import find_model
from lplan.trainer.prepare import prepare_data
from lplan.trainer.process_tree import usage_of
model, data, task, longest = sys.argv[1:]
imported = usage_of("self")
found = prepare_data(data, find_model(model), task=task, max_length=int(longest))
usage = usage_of("self")
print(json.dumps({
    "texts": asdict(found.texts), "imports_bytes": imported.rss_bytes, "file_bytes": usage.file_bytes,
    "measured_bytes": usage.high_water_bytes,
}))
"""
Writer = Callable[[Path, random.Random], None]


def texts_of(row: Mapping[str, Any]) -> Texts:
    """What the row's data set was."""
    return Texts(**row["texts"])


def row(tokenizer: str, data: str) -> dict[str, Any]:
    """One process, measured."""
    folder = tokenizer_folder(tokenizer)
    with tempfile.TemporaryDirectory(prefix="lplan-data-") as place:
        location, task, longest = _written(data, Path(place))
        found = _answer(_MEASURE, str(folder), location, task, longest)
    entries = json.loads((folder / "config.json").read_text(encoding="utf-8"))["vocab_size"]
    return {
        "tokenizer": tokenizer,
        "data": data,
        "entries": entries,
        **found,
    }


def predicted(measured: Mapping[str, Any]) -> dict[str, Any]:
    """The row beside what is predicted of it."""
    found = tokenizing(texts_of(measured), measured["entries"])
    expected = sum(found.components.values())
    return {
        **measured,
        "predicted_bytes": expected,
        "low_bytes": found.low_bytes,
        "high_bytes": found.high_bytes,
        "error": round(expected / measured["measured_bytes"] - 1, 4),
    }


def _answer(program: str, *arguments: str) -> Any:
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "RAYON_NUM_THREADS": "2"}
    run = subprocess.run(
        [sys.executable, "-c", program, *arguments], stdout=subprocess.PIPE, text=True, check=True, env=environment
    )  # fmt: skip
    return json.loads(run.stdout.splitlines()[-1])


def _written(data: str, folder: Path) -> tuple[str, str, str]:
    """Where a data set is, its task, and the longest sequence."""
    if data not in _DATA:
        return "demo", "banking77", "8192"
    name, writer, longest = _DATA[data]
    writer(folder / name, random.Random(0))
    return str(folder / name), "banking77" if name.endswith(".csv") else "none", longest


def queries() -> list[str]:
    """The demo's, which other texts are made of."""
    return [e.messages[-2].content for e in read_examples("demo", task=None).train]


def text(generator: random.Random, queries: list[str], characters: int) -> str:
    """Queries until they are so long together, at least one."""
    found = generator.choice(queries)
    while len(found) < characters:
        found = f"{found}, and {generator.choice(queries)}"
    return found


def _labelled(path: Path, generator: random.Random) -> None:
    examples = read_examples("demo", task=None).train
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["text", "category"])
        for example in generator.choices(examples, k=100_000):
            table.writerow([example.messages[-2].content, example.label])


def _pairs(path: Path, generator: random.Random, *, count: int, characters: int) -> None:
    known = queries()
    sides = ("prompt", "response")
    rows = (
        {side: text(generator, known, round(characters * generator.random())) for side in sides}
        for _ in range(count)
    )
    write_rows(path, rows)


def _dialogues(path: Path, generator: random.Random) -> None:
    known, roles = queries(), ("user", "assistant") * 4
    rows = (
        {"messages": [{"role": role, "content": text(generator, known, 80)} for role in roles]}
        for _ in range(15_000)
    )
    write_rows(path, rows)


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """JSON lines, or one array, by the suffix."""
    if path.suffix == ".json":
        path.write_text(json.dumps(list(rows)), encoding="utf-8")
        return
    with path.open("w", encoding="utf-8") as file:
        for one in rows:
            file.write(json.dumps(one) + "\n")


_DATA: Mapping[str, tuple[str, Writer, str]] = {
    "100,000 labelled queries": ("queries.csv", _labelled, "8192"),
    "50,000 pairs": ("pairs.jsonl", partial(_pairs, count=50_000, characters=700), "8192"),
    "3,000 long pairs, cut": ("long.jsonl", partial(_pairs, count=3_000, characters=6_000), "512"),
    "15,000 dialogues": ("dialogues.jsonl", _dialogues, "8192"),
    WHOLE_FILE: ("pairs.json", partial(_pairs, count=50_000, characters=700), "8192"),
}
DATA = ("the demo's", *_DATA)


def main() -> None:
    """Measure, print, store."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--again", action="store_true", help="predict anew for the stored rows")
    parser.add_argument("--only", default="", help="rows whose tokenizer and data contain this")
    options = parser.parse_args()
    path = RESULTS / f"{NAME}.json"
    before = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"rows": []}
    known = {(one["tokenizer"], one["data"]): one for one in before["rows"]}
    measured = [
        known[tokenizer, data]
        if options.again or options.only not in f"{tokenizer}, {data}"
        else row(tokenizer, data)
        for tokenizer in NAMES
        for data in DATA
    ]
    rows = [predicted(one) for one in measured]
    if options.again:
        path.write_text(json.dumps({**before, "rows": rows}, indent=1) + "\n", encoding="utf-8")
    else:
        store(NAME, rows)
    Console().print(_table(rows))


def _table(rows: list[dict[str, Any]]) -> Table:
    table = Table(title="reading and tokenizing, MB")
    for head in ("tokenizer", "data", "samples", "tokens", "predicted", "measured", "error"):
        table.add_column(head, justify="left" if head in ("tokenizer", "data") else "right")
    for one in rows:
        texts = texts_of(one)
        table.add_row(
            one["tokenizer"], one["data"], f"{texts.samples:,}", f"{texts.tokens:,}",
            f"{one['predicted_bytes'] / 1e6:.0f}", f"{one['measured_bytes'] / 1e6:.0f}", f"{one['error']:+.1%}",
        )  # fmt: skip
    return table


if __name__ == "__main__":
    main()
