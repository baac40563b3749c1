"""Watching from outside: a run's record as it grows, or any process with everything it started."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

from ..planner.events import Event, Outcome, Sample, from_line
from ..profiles.errors import LplanError, UsageError
from .gauges import gauges_of_process
from .monitor import INTERVAL_S, Monitor
from .process_tree import ProcessTree
from .run_folder import RunFolder

_POLL_S = 0.2


def follow(folder: RunFolder, *, poll_s: float = _POLL_S) -> Iterator[Event]:
    """The events of a run, from the first, as they are written; ends with its end, or when nobody writes any more."""
    with folder.events.open(encoding="utf-8") as lines:
        torn, ended, is_written = "", False, True
        while True:
            chunk = lines.readline()
            if chunk.endswith("\n"):
                event = from_line(torn + chunk)
                torn = ""
                if event is not None:
                    yield event
                    ended = isinstance(event, Outcome)
                continue
            torn += chunk
            if ended or not is_written:
                return
            time.sleep(poll_s)
            is_written = folder.is_locked  # asked before the last look, which then misses nothing


def watch_process(pid: int, on_sample: Callable[[Sample], object], *, interval_s: float = INTERVAL_S) -> None:
    """Sample the memory of a process and of all that it started, until it ends.

    Raises UsageError when there is no such process, LplanError when its memory may not be read.
    """
    if not Path(f"/proc/{pid}").is_dir() and Path("/proc/self").exists():
        raise UsageError(f"there is no process {pid}", hint="`ps aux` lists them")
    tree = ProcessTree(pid)
    monitor = Monitor(
        tree,
        gauges=gauges_of_process(pid, tree.known),
        on_reading=lambda _: None,
        started_s=time.monotonic(),
    )
    reading = monitor.read()
    if reading is None:
        raise LplanError(
            f"the memory of process {pid} cannot be read", hint="it has ended, or is another user's"
        )
    while reading is not None:
        on_sample(reading.sample)
        time.sleep(interval_s)
        reading = monitor.read()
