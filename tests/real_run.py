"""The real worker under the real supervisor, on a tiny model made in memory."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from real_worker import STEPS
from supervision import Run

from lplan.planner.events import Event, Start
from lplan.trainer.run_folder import RunFolder
from lplan.trainer.supervise import RunFacts, supervise

GIB = 2**30


def train(folder: Path, on_event: Callable[[Event], object] | None = None, **options: Any) -> Run:
    """Supervise a run whose folder is filled, to its end or its failure."""
    events: list[Event] = []

    def gather(event: Event) -> None:
        events.append(event)
        if on_event is not None:
            on_event(event)

    outcome = supervise(
        [sys.executable, "-m", "lplan.trainer.worker", str(folder)],
        environment={"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"},
        folder=RunFolder(folder),
        start=RunFacts(model="tiny", total_steps=STEPS, planned_peak_bytes=GIB),
        budget_bytes=2 * GIB,
        on_event=gather,
        **options,
    )
    return Run(outcome, RunFolder(folder), events)


def kill_when(
    condition: Callable[[Event], bool], number: signal.Signals = signal.SIGKILL
) -> Callable[[Event], None]:
    """Somebody who signals the worker, as `kill -9` does, at the first event of which `condition` is true."""
    done: list[Event] = []

    def watch(event: Event) -> None:
        if not done and not isinstance(event, Start) and condition(event):
            done.append(event)
            for child in _children():
                os.kill(child, number)

    return watch


def _children() -> list[int]:
    import psutil

    return [p.pid for p in psutil.Process().children() if "lplan.trainer.worker" in " ".join(p.cmdline())]
