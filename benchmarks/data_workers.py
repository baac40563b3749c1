"""What worker processes add, measured: `python -m benchmarks.data_workers` (needs TRL: make .venv/.bench).

`datasets` starts some for tokenizing (TRL's `dataset_num_proc`), a DataLoader for batches (`dataloader_num_workers`).
All are forks of a process that has a model. Each row is the highest memory of such a tree of processes, shared pages
counted once (for a loader's between steps), less what the process held before it forked, or holds without workers.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from lplan.planner.allocator import environment_of

from .machine_info import RESULTS, store
from .peak_of import peak_of
from .real_tokenizers import tokenizer_folder
from .tokenizing import queries, text, write_rows

NAME = "data_workers"
_TOKENIZE = """
import json, os, sys
import torch
from datasets import load_dataset
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import SFTConfig, SFTTrainer
from lplan.trainer.process_tree import usage_of
model, tokenizer, data, workers, longest, place = sys.argv[1:]
tokenizer = AutoTokenizer.from_pretrained(tokenizer)
tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
dataset = load_dataset("json", data_files=data, split="train", cache_dir=place)
loaded = AutoModelForCausalLM.from_pretrained(model, dtype=torch.bfloat16)
before = usage_of("self").rss_bytes
SFTTrainer(
    model=loaded, train_dataset=dataset, processing_class=tokenizer,
    args=SFTConfig(
        output_dir=place, dataset_num_proc=int(workers) or None, max_length=int(longest), report_to=[], bf16=False,
        use_cpu=True,
    ),
)
print(json.dumps({"before_bytes": before}))
"""
_LOAD = """
import json, os, sys
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, Trainer, TrainerCallback, TrainingArguments
from lplan.trainer.process_tree import ProcessTree
folder, method, dtype, workers, place = sys.argv[1:]
model = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype))
if method == "lora":
    model = get_peft_model(model, LoraConfig(target_modules=["q_proj", "v_proj"]))
row = {"input_ids": list(range(10, 26)), "labels": list(range(10, 26))}
held = []
class Watch(TrainerCallback):
    def on_step_end(self, args, state, control, **more):
        if state.global_step > 2:
            held.append(ProcessTree(os.getpid()).usage().rss_bytes)
Trainer(
    model=model, train_dataset=[row] * 400, callbacks=[Watch()],
    args=TrainingArguments(
        output_dir=place, per_device_train_batch_size=1, max_steps=8, dataloader_num_workers=int(workers),
        report_to=[], save_strategy="no", use_cpu=True, disable_tqdm=True, dataloader_pin_memory=False,
    ),
).train()
trained = sum(p.numel() * p.element_size() for p in model.parameters() if p.requires_grad)
print(json.dumps({"trained_bytes": trained, "held_bytes": max(held)}))
"""
_LOADERS = (("lora", "float32"), ("full", "float32"), ("full", "bfloat16"))


def _run(program: str, *arguments: str) -> tuple[dict[str, Any], int]:
    """What a program says, and the highest memory of its tree of processes."""
    with tempfile.TemporaryDirectory(prefix="lplan-workers-") as place:
        environment = {
            **os.environ, **environment_of("pinned", threads=2), "HF_HUB_OFFLINE": "1",
            "TOKENIZERS_PARALLELISM": "false",
        }  # fmt: skip
        done = peak_of([sys.executable, "-c", program, *arguments, place], environment=environment)
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    return json.loads(done.stdout.splitlines()[-1]), done.rss_bytes


def tokenizing_rows(workers: Sequence[int] = (1, 2, 4)) -> list[dict[str, Any]]:
    """SFTTrainer's own preparation, with so many workers."""
    rows = []
    for tokenizer, count, characters, longest in (
        ("smollm2", 6_000, 500, 1024),
        ("smollm2", 40_000, 500, 1024),
        ("smollm2", 3_000, 5_000, 512),
        ("qwen", 6_000, 500, 1024),
        ("qwen", 40_000, 500, 1024),
    ):
        with tempfile.TemporaryDirectory(prefix="lplan-texts-") as place:
            data = Path(place) / "pairs.jsonl"
            _write(data, count, characters)
            for number in workers:
                found, peak = _run(
                    _TOKENIZE, str(tokenizer_folder("smollm2")), str(tokenizer_folder(tokenizer)), str(data),
                    str(number), str(longest),
                )  # fmt: skip
                added = peak - found["before_bytes"]
                rows.append(
                    {
                        "kind": "tokenizing", "tokenizer": tokenizer, "samples": count, "characters": characters,
                        "workers": number, "added_bytes": added,
                    }
                )  # fmt: skip
    return rows


def loader_rows(workers: Sequence[int] = (0, 1, 2, 4)) -> list[dict[str, Any]]:
    """Eight small steps of the Trainer, with so many workers."""
    rows = []
    for method, dtype in _LOADERS:
        plain = 0
        for number in workers:
            found, _ = _run(_LOAD, str(tokenizer_folder("smollm2")), method, dtype, str(number))
            held = found["held_bytes"]
            plain = held if number == 0 else plain
            rows.append(
                {
                    "kind": "loader", "method": method, "dtype": dtype, "workers": number,
                    "trained_bytes": found["trained_bytes"], "held_bytes": held, "added_bytes": held - plain,
                }
            )  # fmt: skip
    return rows


def rewritten_bytes(row: Mapping[str, Any]) -> int:
    """Trained tensors that were in memory when a loader's row forked: bf16 weights are pages of their file then."""
    mapped = row["method"] == "full" and row["dtype"] == "bfloat16"
    return 0 if mapped else int(row["trained_bytes"])


def _write(path: Path, count: int, characters: int) -> None:
    generator, known = random.Random(0), queries()
    sides = ("prompt", "completion")
    rows = ({side: text(generator, known, characters // 2) for side in sides} for _ in range(count))
    write_rows(path, rows)


_KINDS: Mapping[str, Callable[[], list[dict[str, Any]]]] = {
    "loader": loader_rows,
    "tokenizing": tokenizing_rows,
}


def _table(rows: Sequence[Mapping[str, Any]]) -> Table:
    table = Table(title="added by workers, MB")
    for head in ("what", "case", "workers", "added", "each"):
        table.add_column(head, justify="left" if head in ("what", "case") else "right")
    for row in rows:
        case = (
            f"{row['tokenizer']}, {row['samples']:,} x {row['characters']:,} characters"
            if row["kind"] == "tokenizing"
            else f"{row['method']}, {row['dtype']}"
        )
        each = row["added_bytes"] / max(1, row["workers"])
        table.add_row(
            row["kind"], case, str(row["workers"]), f"{row['added_bytes'] / 1e6:.0f}", f"{each / 1e6:.0f}"
        )
    return table


def main() -> None:
    """Measure, print, store."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=_KINDS, help="keep the stored rows of the other kind")
    only = parser.parse_args().only
    path = RESULTS / f"{NAME}.json"
    stored = json.loads(path.read_text(encoding="utf-8"))["rows"] if only else []
    rows = []
    for kind, measure in _KINDS.items():
        rows += measure() if only in (None, kind) else [row for row in stored if row["kind"] == kind]
    Console().print(_table(rows))
    store(NAME, rows)


if __name__ == "__main__":
    main()
