"""Running fake workers under the real supervisor."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lplan.benchmarks.tiny_run import Run
from lplan.planner.events import Event
from lplan.trainer.limit import STRATEGIES, Strategy
from lplan.trainer.run_folder import RunFolder
from lplan.trainer.supervise import RunFacts, supervise

FAKE_WORKER = Path(__file__).parent / "trainer" / "fake_worker.py"
FACTS = RunFacts(model="fake", total_steps=10, planned_peak_bytes=100 * 2**20)


def fake(*verbs: str) -> list[str]:
    """The command of a fake worker."""
    return [sys.executable, str(FAKE_WORKER), *verbs]


def run_fake(
    path: Path,
    *verbs: str,
    command: Sequence[str] | None = None,
    budget_bytes: int = 2**30,
    on_event: Callable[[Event], object] | None = None,
    strategies: Sequence[Strategy] = STRATEGIES,
    grace_s: float = 10.0,
    **options: Any,
) -> Run:
    """Supervise a fake worker in `path` and gather what happened."""
    folder = RunFolder.create(path)
    events: list[Event] = []

    def gather(event: Event) -> None:
        events.append(event)
        if on_event is not None:
            on_event(event)

    outcome = supervise(
        command or fake(*verbs),
        environment={},
        folder=folder,
        start=FACTS,
        budget_bytes=budget_bytes,
        on_event=gather,
        strategies=strategies,
        grace_s=grace_s,
        **options,
    )
    return Run(outcome, folder, events)


def wait_until(condition: Callable[[], object], timeout_s: float = 8.0) -> bool:
    """Whether the condition came true in time."""
    deadline_s = time.monotonic() + timeout_s
    while time.monotonic() < deadline_s:
        if condition():
            return True
        time.sleep(0.02)
    return False
