"""The parent of a run: starts the worker inside its limit, watches it, records it, explains its end.

Three threads meet in one queue: the monitor's readings, the worker's events, and the caller's thread, which
writes events.jsonl and shows them. Signals only leave a token in the queue.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TypeAlias

from ..planner.estimate import REHEARSAL
from ..planner.events import SCHEMA, Event, Metric, Note, Outcome, Phase, PhasePeak, Start, read
from ..planner.trend import Trend
from ..profiles.units import format_size
from .diagnose import Evidence, Stop, diagnose
from .gauges import gauges_of_run
from .interrupts import Interrupts
from .limit import STRATEGIES, DeviceLimit, Limiter, Strategy, Watch, impose
from .monitor import Monitor, Reading
from .phase_peaks import PhasePeaks
from .recorder import Recorder
from .run_folder import RunFolder
from .worker_process import WorkerProcess, last_lines

GRACE_S = 120.0
"""How long a worker that was asked to leave may go on, to finish its step and save."""

_POLL_S = 0.1
_LAST_WORDS_S = 2.0


@dataclass(frozen=True, kw_only=True, slots=True)
class RunFacts:
    """What the first event says of the run. `mapped_bytes` are the weight files that the worker maps."""

    model: str
    total_steps: int
    planned_peak_bytes: int
    mapped_bytes: int = 0
    planned_rehearsal_bytes: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Retry:
    """How the worker is started once more, and a sentence about it."""

    environment: Mapping[str, str]
    start: RunFacts
    text: str


Recover: TypeAlias = Callable[[Outcome], "Retry | None"]


class _Interrupt:
    """The user wants the run to end."""


class _OverLimit:
    """The monitor saw too much memory and has killed the worker."""


_Item: TypeAlias = Event | Reading | _Interrupt | _OverLimit


def supervise(
    argv: Sequence[str],
    *,
    environment: Mapping[str, str],
    folder: RunFolder,
    start: RunFacts,
    budget_bytes: int,
    on_event: Callable[[Event], object],
    strategies: Sequence[Strategy] = STRATEGIES,
    grace_s: float = GRACE_S,
    recover: Recover | None = None,
) -> Outcome:
    """Run `argv` with `environment` added to ours, held to `budget_bytes`; its outcome, also the last event.

    `on_event` gets every event in this thread, after it was written. Ctrl-C, SIGTERM or SIGHUP once asks the
    worker to save and leave, twice ends it. `recover` may have a run that ended start again. Whatever happens,
    an exception of `on_event` included, no process of the run is left. Raises UsageError if another run is
    going on in the folder, LplanError if it cannot be written.
    """
    with folder.lock(), Recorder(folder.events, on_event) as record:
        while True:
            run = _Run(folder, start, budget_bytes, record, grace_s)
            with Interrupts(run.interrupt):
                outcome = run.go(argv, environment, strategies)
            retry = None if recover is None or run.asked_to_end else _recovered(recover, outcome, record)
            if retry is None:
                record(outcome)
                return outcome
            record(Note(t_s=outcome.t_s, text=f"{outcome.explanation}; {retry.text}"))
            environment, start = retry.environment, retry.start


def _recovered(recover: Recover, outcome: Outcome, record: Recorder) -> Retry | None:
    """What comes next, unless the user wants it to end: then it has ended as it did."""
    try:
        with Interrupts(lambda: None, patience=1):
            return recover(outcome)
    except KeyboardInterrupt:
        record(Note(t_s=outcome.t_s, text="stopped while a smaller plan was sought"))
        return None


class _Run:
    def __init__(
        self, folder: RunFolder, facts: RunFacts, budget_bytes: int, record: Recorder, grace_s: float
    ) -> None:
        self._folder = folder
        self._facts = facts
        self._limiter: Limiter = Watch(budget_bytes)
        self._record = record
        self._grace_s = grace_s
        self._started_s = time.monotonic() - _recorded_s(folder)
        self._oom_kills_before = _machine_oom_kills()
        self._queue: SimpleQueue[_Item] = SimpleQueue()
        self._peaks = PhasePeaks()
        self._trend = Trend(limit_bytes=budget_bytes, planned_bytes=facts.planned_peak_bytes)
        self._stop: Stop | None = None
        self._deadline_s = float("inf")
        self._phase: str | None = None
        self._step: int | None = None
        self._told: Outcome | None = None
        self._anonymous_bytes = 0
        self._log_began = folder.log.stat().st_size if folder.log.is_file() else 0

    @property
    def asked_to_end(self) -> bool:
        """Whether the user wanted the run to end."""
        return self._stop in ("asked", "killed")

    def interrupt(self) -> None:
        self._queue.put(_Interrupt())

    def go(
        self, argv: Sequence[str], environment: Mapping[str, str], strategies: Sequence[Strategy]
    ) -> Outcome:
        try:
            worker = WorkerProcess.start(
                argv, environment=environment, log=self._folder.log, started_s=self._started_s
            )
        except OSError as error:
            self._announce("none")
            return self._conclude(None, limiter_peak_bytes=None, oom_kills=0, log_tail=(str(error),))
        monitor: Monitor | None = None
        reader = threading.Thread(target=self._listen, args=(worker,), name="lplan-events", daemon=True)
        try:
            self._limit(worker, strategies)
            monitor = Monitor(
                worker.tree,
                gauges=gauges_of_run(self._limiter, worker.tree.known),
                on_reading=lambda reading: self._on_reading(reading, worker),
                started_s=self._started_s,
            )
            monitor.start()
            reader.start()
            worker.let_go()
            self._follow(worker)
        finally:
            exit_status = worker.end(self._limiter.members)
            if monitor is not None:
                monitor.stop()
            peak_bytes, oom_kills = self._limiter.peak_bytes(), self._limiter.oom_kills()
            self._limiter.close()
        reader.join(_LAST_WORDS_S)
        while not self._queue.empty():
            self._take(self._queue.get(), None)
        return self._conclude(
            exit_status,
            limiter_peak_bytes=peak_bytes,
            oom_kills=oom_kills,
            log_tail=last_lines(self._folder.log, since=self._log_began),
        )

    def _limit(self, worker: WorkerProcess, strategies: Sequence[Strategy]) -> None:
        self._limiter, refusals = impose(
            worker.pid, self._limiter.limit_bytes, self._facts.mapped_bytes, strategies
        )
        self._trend.of_gpu = isinstance(self._limiter, DeviceLimit)
        self._announce(self._limiter.name)
        for refusal in refusals:
            self._note(f"the run is limited by {self._limiter.name}: {refusal}")

    def _announce(self, limiter: str) -> None:
        self._record(
            Start(
                t_s=self._now_s(),
                schema=SCHEMA,
                run=self._folder.path.name,
                model=self._facts.model,
                budget_bytes=self._limiter.limit_bytes,
                limiter=limiter,
                planned_peak_bytes=self._facts.planned_peak_bytes,
                total_steps=self._facts.total_steps,
                time=datetime.now().astimezone().isoformat(timespec="seconds"),
            )
        )

    def _on_reading(self, reading: Reading, worker: WorkerProcess) -> None:
        """In the monitor's thread: a drawing viewer must not delay the watched limit."""
        self._queue.put(reading)
        if self._limiter.exceeded(reading.sample):
            self._queue.put(_OverLimit())
            worker.kill(self._limiter.members)

    def _listen(self, worker: WorkerProcess) -> None:
        for event in worker.events():
            self._queue.put(event)

    def _follow(self, worker: WorkerProcess) -> None:
        while not worker.ended():
            with suppress(Empty):
                self._take(self._queue.get(timeout=_POLL_S), worker)
            if time.monotonic() > self._deadline_s:
                self._deadline_s = float("inf")
                self._note(f"the worker did not leave within {self._grace_s:g} s and is ended")
                self._end_worker(worker)

    def _take(self, item: _Item, worker: WorkerProcess | None) -> None:
        match item:
            case Reading(sample=sample):
                self._peaks.add(item)
                self._anonymous_bytes = max(self._anonymous_bytes, sample.anonymous_bytes)
                self._record(sample)
                self._warn(self._trend.sample(sample), worker)
            case _Interrupt():
                self._on_interrupt(worker)
            case _OverLimit():
                self._stop = "over limit"
            case Outcome():
                self._told = item
            case PhasePeak():
                self._end_phase(item.t_s, item)
            case Phase():
                self._end_phase(item.t_s)
                self._peaks.begin(item.name, item.t_s)
                self._phase = item.name
                self._record(item)
            case _:
                self._record(item)
                if isinstance(item, Metric):
                    self._step = item.step
                    self._warn(self._trend.step(item.t_s), worker)

    def _warn(self, text: str | None, worker: WorkerProcess | None) -> None:
        if text is not None and worker is not None:
            worker.ask_to_free()
            self._note(f"{text}; the worker is asked to free caches after its step")

    def _on_interrupt(self, worker: WorkerProcess | None) -> None:
        if worker is None:
            return
        if self._stop is None:
            self._stop = "asked"
            self._deadline_s = time.monotonic() + self._grace_s
            worker.ask_to_leave()
            self._note("stopping: the worker finishes its step, saves and leaves; once more ends it at once")
        else:
            self._end_worker(worker)

    def _end_worker(self, worker: WorkerProcess) -> None:
        self._stop = "killed"
        worker.kill(self._limiter.members)

    def _end_phase(self, t_s: float, told: PhasePeak | None = None) -> None:
        peak = self._peaks.end(t_s, told)
        if peak is None:
            return
        self._record(peak)
        if peak.name == REHEARSAL and self._stop is None and told is not None:
            self._note(
                f"rehearsed a step, an evaluation and a checkpoint on the longest samples: "
                f"{format_size(peak.measured_bytes)} measured, "
                f"{format_size(self._facts.planned_rehearsal_bytes)} planned"
            )

    def _conclude(
        self,
        exit_status: int | None,
        *,
        limiter_peak_bytes: int | None,
        oom_kills: int,
        log_tail: tuple[str, ...],
    ) -> Outcome:
        self._end_phase(self._now_s())
        return diagnose(
            Evidence(
                t_s=self._now_s(),
                exit_status=exit_status,
                stop=self._stop,
                limiter=self._limiter.name,
                limit_bytes=self._limiter.limit_bytes,
                limiter_peak_bytes=limiter_peak_bytes,
                limiter_oom_kills=oom_kills,
                machine_oom_kills=_machine_oom_kills() - self._oom_kills_before,
                anonymous_bytes=self._anonymous_bytes,
                phase=self._phase,
                step=self._step,
                total_steps=self._facts.total_steps,
                told=self._told,
                log_tail=log_tail,
                log=self._folder.log,
            )
        )

    def _note(self, text: str) -> None:
        self._record(Note(t_s=self._now_s(), text=text))

    def _now_s(self) -> float:
        return round(time.monotonic() - self._started_s, 4)


def _recorded_s(folder: RunFolder) -> float:
    """Until when a run that is resumed has been recorded: its time goes on from there."""
    return max((event.t_s for event in read(folder.events)), default=0.0) if folder.events.is_file() else 0.0


def _machine_oom_kills() -> int:
    """Processes that this machine's kernel has killed for memory since it booted, in any control group."""
    try:
        counters = Path("/proc/vmstat").read_text()
    except OSError:
        return 0
    found = re.search(r"^oom_kill (\d+)$", counters, re.MULTILINE)
    return int(found[1]) if found else 0
