"""Real runs of seconds: the real worker on a tiny model made in memory, alone or under the real supervisor."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from lplan.planner.allocator import environment_of
from lplan.planner.events import Event, Outcome, Start
from lplan.planner.plan import Schedule
from lplan.planner.recipe import Recipe
from lplan.trainer.data.encoding import EncodedSet
from lplan.trainer.job import Job, TokenFile
from lplan.trainer.retry import RunFacts
from lplan.trainer.run_folder import RunFolder
from lplan.trainer.supervise import supervise

GIB = 2**30
CONFIG: Mapping[str, Any] = {
    "model_type": "llama", "hidden_size": 64, "intermediate_size": 160, "num_hidden_layers": 2,
    "num_attention_heads": 8, "num_key_value_heads": 2, "vocab_size": 300, "max_position_embeddings": 2048,
    "pad_token_id": 0,
}  # fmt: skip
RECIPE = Recipe(
    init="random", precision="fp32", batch_size=4, accumulation=2, seq_len=32, supervised_len=32, threads=1
)
STEPS = 8
E = TypeVar("E")


@dataclass
class Run:
    """How a run ended, and what was told."""

    outcome: Outcome
    folder: RunFolder
    events: list[Event] = field(default_factory=list)

    def of(self, kind: type[E]) -> list[E]:
        """The events of a kind, in order."""
        return [event for event in self.events if isinstance(event, kind)]


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
        "model": None, "config": CONFIG, "trust_remote_code": False, "recipe": recipe,
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


def train(
    folder: Path,
    on_event: Callable[[Event], object] | None = None,
    *,
    command: Sequence[str] | None = None,
    budget_bytes: int = 2 * GIB,
    **options: Any,
) -> Run:
    """Supervise a run whose folder is filled, to its end or its failure."""
    events: list[Event] = []

    def gather(event: Event) -> None:
        events.append(event)
        if on_event is not None:
            on_event(event)

    outcome = supervise(
        command or [sys.executable, "-m", "lplan.trainer.worker", str(folder)],
        environment={"CUDA_VISIBLE_DEVICES": "", **environment_of(RECIPE.allocator, threads=RECIPE.threads)},
        folder=RunFolder(folder),
        start=RunFacts(model="tiny", total_steps=STEPS, planned_peak_bytes=GIB),
        budget_bytes=budget_bytes,
        on_event=gather,
        **options,
    )
    return Run(outcome, RunFolder(folder), events)


def once(condition: Callable[[Event], bool], act: Callable[[], object]) -> Callable[[Event], None]:
    """Somebody who acts at the first event of which `condition` is true."""
    done: list[Event] = []

    def watch(event: Event) -> None:
        if not done and not isinstance(event, Start) and condition(event):
            done.append(event)
            act()

    return watch


def kill_when(
    condition: Callable[[Event], bool], number: signal.Signals = signal.SIGKILL
) -> Callable[[Event], None]:
    """Somebody who signals the worker, as `kill -9` does, at the first event of which `condition` is true."""
    return once(condition, lambda: [os.kill(child, number) for child in workers()])


def workers(parent: int | None = None) -> list[int]:
    """The workers of a process, this one by default."""
    import psutil

    children = psutil.Process(parent).children()
    return [p.pid for p in children if "lplan.trainer.worker" in " ".join(p.cmdline())]


def learned(folder: Path) -> dict[str, Any]:
    """The weights of the adapter, or of the whole model after full fine-tuning, by name."""
    from safetensors.torch import load_file

    (file,) = (folder / "adapter").glob("*.safetensors")
    return load_file(file)


def learned_the_same(one: Path, other: Path) -> bool:
    """Whether two runs' adapters are equal to the bit."""
    import torch

    expected, found = learned(one), learned(other)
    same = (name in found and torch.equal(found[name], tensor) for name, tensor in expected.items())
    return expected.keys() == found.keys() and all(same)
