"""Samples the memory of a worker's tree, eleven times a second, for less than a percent of a core."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..planner.events import Sample
from .gauges import Gauge
from .process_tree import ProcessTree

INTERVAL_S = 0.09
# Shares of a large tree (smaps_rollup) take milliseconds; then samples come as rarely as this demands.
_BUSY_SHARE = 0.05


@dataclass(frozen=True, slots=True)
class Reading:
    """A sample, and the kernel's mark of the highest RSS of the worker itself since it was last reset."""

    sample: Sample
    high_water_bytes: int | None


class Monitor:
    """A thread that hands every reading to `on_reading` until it is stopped or the worker has ended."""

    def __init__(
        self,
        tree: ProcessTree,
        *,
        gauges: Sequence[Gauge] = (),
        on_reading: Callable[[Reading], object],
        started_s: float,
        interval_s: float = INTERVAL_S,
    ) -> None:
        self._tree = tree
        self._gauges = gauges
        self._on_reading = on_reading
        self._started_s = started_s
        self._interval_s = interval_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lplan-monitor", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """No reading is handed over after this returns."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join()

    def read(self) -> Reading | None:
        """One reading now; None once the worker has ended."""
        # Stamped before it is read: a high-water mark from before a phase's reset is never dated into it.
        t_s = time.monotonic() - self._started_s
        usage = self._tree.usage()
        if usage is None:
            return None
        sample = Sample(
            t_s=round(t_s, 4),
            rss_bytes=usage.rss_bytes,
            anonymous_bytes=usage.anonymous_bytes,
            file_bytes=usage.file_bytes,
            swap_bytes=usage.swap_bytes,
            **dict(item for gauge in self._gauges for item in gauge().items()),
        )
        return Reading(sample, usage.high_water_bytes)

    def _run(self) -> None:
        due_s = time.monotonic()
        while not self._stop.wait(max(0.0, due_s - time.monotonic())):
            began_s = time.thread_time()
            reading = self.read()
            if reading is None:
                return
            self._on_reading(reading)
            cost_s = time.thread_time() - began_s
            due_s = max(due_s + self._interval_s, time.monotonic() + cost_s / _BUSY_SHARE)
