"""What the recorded storages are, and which unit their segments belong to."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby

from ..stream import Block
from .depth import Depth
from .tracker import Segment, Storage, StorageTracker


def name_components(tracker: StorageTracker) -> None:
    """Give every storage without a component one, by where it was born and where it died.

    Activations are what outlives the forward pass, or what checkpointing's recomputation makes anew.
    """
    died_in: dict[int, Segment] = {}
    for segment in tracker.segments:
        died_in.update((-event - 1, segment) for event in segment.events if event < 0)
    for segment in tracker.segments:
        for event in segment.events:
            if event > 0:
                storage = tracker.storages[event - 1]
                storage.component = storage.component or _component(storage, segment, died_in.get(event - 1))


def _component(storage: Storage, born: Segment, died: Segment | None) -> str:
    if born.stage == "head":
        return "logits and loss"
    if born.stage == "batch":
        return "activations"
    if born.stage == "forward":
        return "temporaries" if died is not None and died.stage == "forward" else "activations"
    return "activations" if born.stage == "backward" and storage.recomputed else "temporaries"


def blocks(segments: Iterable[Segment], depth: Depth) -> list[Block]:
    """The segments as planner.stream wants them: merged by unit."""
    return [
        Block(phase, stage, unit, tuple(event for segment in run for event in segment.events))
        for (phase, stage, unit), run in groupby(
            segments, key=lambda segment: (segment.phase, segment.stage, depth.unit(segment.layer))
        )
    ]
