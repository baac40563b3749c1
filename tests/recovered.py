"""Runs that are broken from outside while they go, and what must be true of them once they have recovered."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from lplan.benchmarks.tiny_run import workers
from lplan.planner.documents import read_plan
from lplan.planner.events import Event, Metric, Note, Outcome, Start, read
from lplan.profiles.cgroup import writable_memory_group

MIB = 2**20
PATIENCE_S = 240.0


def losses(events: Sequence[Event]) -> dict[int, float]:
    """Losses by step; of a step that was done twice, the later one."""
    return {event.step: event.loss for event in events if isinstance(event, Metric)}


@contextmanager
def somebody(act: Callable[[], bool], events_file: Path, *, after_step: int) -> Iterator[None]:
    """Tries to act from the moment that a step is done, until it succeeds or the run is over."""
    over = threading.Event()

    def interfere() -> None:
        deadline_s = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline_s and not over.wait(0.01):
            if events_file.is_file() and after_step in losses(list(read(events_file))) and act():
                return

    thread = threading.Thread(target=interfere)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def lower_the_limit(to_bytes: int) -> bool:
    """As an administrator who finds the run too large; refused while more than that is in use (version 1)."""
    parent = writable_memory_group()
    assert parent is not None
    limit = {1: "memory.limit_in_bytes", 2: "memory.max"}[parent.version]
    for group in parent.path.glob(f"lplan-{os.getpid()}-*"):
        with suppress(OSError):
            (group / limit).write_text(str(to_bytes))
            return True
    return False


def kill_the_worker() -> bool:
    """kill -9 of this process's worker."""
    found = workers()
    for pid in found:
        os.kill(pid, signal.SIGKILL)
    return bool(found)


def require_recovered(
    events: Sequence[Event], folder: Path, expected: Mapping[int, float], *, effective_batch: int
) -> dict[str, Any]:
    """Killed once by what holds it, then to its end with the same samples, from a smaller plan with its time.

    What is written of the attempt that died.
    """
    history: list[dict[str, Any]] = json.loads((folder / "attempts.json").read_text())["attempts"]
    assert [attempt["verdict"] for attempt in history] == ["out-of-memory", "done"]
    recipes = [attempt["recipe"] for attempt in history]
    assert recipes[0] != recipes[1]
    assert [r["batch_size"] * r["accumulation"] for r in recipes] == [effective_batch, effective_batch]
    time_of_last = read_plan(folder / "plan.json").time
    assert time_of_last is not None
    assert time_of_last.step_s > 0
    found = losses(events)
    assert list(found) == list(expected)
    assert found == pytest.approx(expected, rel=1e-4)
    assert len([event for event in events if isinstance(event, Start)]) == 2
    return history[0]


def require_lowered(events: Sequence[Event], died: Mapping[str, Any], limit_bytes: int) -> None:
    """It died of a limit that was lowered, by the kernel, was told so, and went on within that limit."""
    assert died["had_bytes"] == limit_bytes
    assert "somebody lowered its limit" in died["explanation"]
    assert [event.budget_bytes for event in events if isinstance(event, Start)][1] == limit_bytes
    notes = [event.text for event in events if isinstance(event, Note)]
    (goes_on,) = [text for text in notes if "goes on from the last checkpoint" in text]
    assert "killed by the kernel" in goes_on
    assert [event.verdict for event in events if isinstance(event, Outcome)] == ["done"]
