"""The real worker on a tiny model made in memory, alone or under the real supervisor."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from array import array
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tiny_models import TINY_MODELS

from lplan.planner.plan import Schedule
from lplan.planner.recipe import Recipe
from lplan.trainer.data.encoding import EncodedSet
from lplan.trainer.job import Job, TokenFile

RECIPE = Recipe(
    init="random", precision="fp32", batch_size=4, accumulation=2, seq_len=32, supervised_len=32, threads=1
)
STEPS = 8


def some_samples(count: int, seed: int) -> EncodedSet:
    """Samples of 8 to 32 tokens, all of them with loss."""
    generator = random.Random(seed)
    ids, offsets = array("i"), array("q", [0])
    for _ in range(count):
        ids.extend(generator.randrange(1, 300) for _ in range(generator.randrange(8, 33)))
        offsets.append(len(ids))
    return EncodedSet(ids=ids, marks=bytearray(b"\1" * len(ids)), offsets=offsets, truncated=0, dropped=0)


def fill(folder: Path, recipe: Recipe = RECIPE, **job: Any) -> Path:
    """A run folder with everything that the worker reads: three steps an epoch, the last one short."""
    (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
    TokenFile(folder, "train").write(some_samples(21, seed=1))
    TokenFile(folder, "validation").write(some_samples(5, seed=2))
    write_job(folder, recipe, **job)
    return folder


def write_job(folder: Path, recipe: Recipe = RECIPE, **job: Any) -> None:
    """What the worker is to do; two steps between checkpoints."""
    known: dict[str, Any] = {
        "model": None, "config": TINY_MODELS["llama"], "trust_remote_code": False, "recipe": recipe,
        "pad_token_id": 0, "checkpoint_steps": 2,
        "schedule": Schedule(max_steps=STEPS, warmup_steps=2, learning_rate=1e-2),
    }  # fmt: skip
    Job(**{**known, **job}).write(folder)


def work(folder: Path, environment: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run the worker alone, to its end."""
    return subprocess.run(
        [sys.executable, "-m", "lplan.trainer.worker", str(folder)],
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "", **(environment or {})},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


def learned(folder: Path) -> dict[str, Any]:
    """The adapter's weights by name."""
    from safetensors.torch import load_file

    return load_file(folder / "adapter" / "adapter_model.safetensors")
