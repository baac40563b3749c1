"""Runs the real worker on made-up tokens of an exact shape, in a process of its own, and reads its phase peaks."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import tempfile
import time
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lplan.planner.allocator import environment_of
from lplan.planner.events import Event, Metric, Outcome, PhasePeak, from_line
from lplan.planner.plan import Schedule
from lplan.planner.recipe import Recipe
from lplan.trainer.data.encoding import EncodedSet
from lplan.trainer.job import Job, TokenFile

SHORTER = 8
"""Padded batches: every row is an eighth shorter and padded up, so that all batches have one shape."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What a run reached: memory by phase, seconds and tokens by step."""

    phases: Mapping[str, PhasePeak]
    steps: Sequence[Metric]

    @property
    def peak_bytes(self) -> int:
        """The run's highest resident set."""
        return max(peak.rss_bytes for peak in self.phases.values())


def samples(recipe: Recipe, vocabulary: int, count: int, seed: int = 0) -> EncodedSet:
    """`count` random samples of the recipe's lengths; the supervised tokens come last."""
    generator = random.Random(seed)
    ids, marks, offsets = array("i"), bytearray(), array("q", [0])
    for _ in range(count):
        length = recipe.seq_len - (recipe.seq_len // SHORTER if recipe.padding == "padded" else 0)
        ids.extend(generator.randrange(vocabulary) for _ in range(length))
        marks.extend(position >= length - recipe.supervised_len for position in range(length))
        offsets.append(len(ids))
    return EncodedSet(ids=ids, marks=marks, offsets=offsets, truncated=0, dropped=0)


def run(
    recipe: Recipe,
    config: Mapping[str, Any],
    *,
    model: str | None = None,
    steps: int = 2,
    environment: Mapping[str, str] | None = None,
) -> Measured:
    """Train `steps` optimizer steps for real and evaluate one batch. Raises RuntimeError with the worker's log."""
    vocabulary = int(config["vocab_size"])
    train = samples(recipe, vocabulary, recipe.effective_batch * steps)
    held_out = samples(recipe, vocabulary, recipe.batch_size)
    return train_on(job_of(recipe, config, model=model, steps=steps), train, held_out, environment)


def job_of(
    recipe: Recipe,
    config: Mapping[str, Any],
    *,
    model: str | None,
    steps: int,
    pad_token_id: int = 0,
    order_batch: int | None = None,
) -> Job:
    """What the worker is to do: `steps` optimizer steps without warm-up and without checkpoints."""
    return Job(
        model=model, config=config, trust_remote_code=False, recipe=recipe, pad_token_id=pad_token_id,
        checkpoint_steps=0, schedule=Schedule(max_steps=steps, warmup_steps=0), order_batch=order_batch,
    )  # fmt: skip


def train_on(
    job: Job, train: EncodedSet, held_out: EncodedSet, environment: Mapping[str, str] | None = None
) -> Measured:
    """Train on samples and evaluate others. Raises RuntimeError with the worker's log."""
    with tempfile.TemporaryDirectory(prefix="lplan-run-") as name:
        folder = Path(name)
        fill(folder, job, train, held_out)
        return _measured(_worker(folder, job.recipe, environment or {}))


def fill(folder: Path, job: Job, train: EncodedSet, held_out: EncodedSet) -> None:
    """Write what the worker reads."""
    TokenFile(folder, "train").write(train)
    TokenFile(folder, "validation").write(held_out)
    job.write(folder)


def _worker(folder: Path, recipe: Recipe, extra: Mapping[str, str]) -> list[Event]:
    reader, writer = os.pipe()
    environment = {
        **os.environ,
        **environment_of(recipe.allocator, threads=recipe.threads),
        **extra,
        "LPLAN_EVENTS_FD": str(writer),
        "LPLAN_RUN_STARTED": str(time.monotonic()),
    }
    with (folder / "log").open("w") as log:
        child = subprocess.Popen(
            [sys.executable, "-m", "lplan.trainer.worker", str(folder)],
            env=environment, pass_fds=[writer], stdout=log, stderr=log,
        )  # fmt: skip
    os.close(writer)
    with os.fdopen(reader) as lines:
        events = [event for line in lines if (event := from_line(line)) is not None]
    if child.wait():
        told = [event.explanation for event in events if isinstance(event, Outcome)]
        raise RuntimeError("\n".join([*told, (folder / "log").read_text()[-3000:]]))
    return events


def _measured(events: Sequence[Event]) -> Measured:
    peaks: dict[str, PhasePeak] = {}
    for event in events:
        if isinstance(event, PhasePeak):  # a run evaluates more than once
            peaks[event.name] = max(peaks.get(event.name, event), event, key=lambda peak: peak.rss_bytes)
    return Measured(
        phases=peaks,
        steps=[event for event in events if isinstance(event, Metric)],
    )
