"""What worker processes for data add to a training process that they are forks of (benchmarks/data_workers.py).

A fork shares the pages of its parent until one of them writes. A worker's own Python objects are touched and so copied;
the parent's are copied once, however many workers there are; and so is every trained tensor at its first step, for the
workers keep the old one.
"""

from __future__ import annotations

from .constants import constants
from .estimate import STEPS
from .recipe import Recipe


def loader_bytes(recipe: Recipe, phase: str, rewritten_bytes: int) -> int:
    """A DataLoader's workers in a phase; an evaluation has those of its own beside them.

    `rewritten_bytes`: trained tensors that are in this machine's memory when the workers start.
    """
    loaders = {**dict.fromkeys((*STEPS, "save"), 1), "evaluation": 2}
    workers = loaders.get(phase, 0) * recipe.loader_workers
    if not workers:
        return 0
    shared, each = constants("data")["loader"]["shared_bytes"], constants("data")["loader"]["each_bytes"]
    return int(shared + workers * each) + rewritten_bytes


def tokenizing_bytes(recipe: Recipe) -> tuple[int, int]:
    """The workers of `datasets`: what they come to hold, and what they hold at least, with few samples for each."""
    found = constants("data")["tokenizing_worker"]
    most = found["shared_bytes"] + recipe.tokenizing_workers * found["each_bytes"]
    return int(most), int(most * found["least_share"])
