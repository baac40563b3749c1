"""One worker, from its start inside the limit to the reason of its end.

Three threads meet in one queue: the monitor's readings, the worker's events, and the caller's thread, which
writes events.jsonl and shows them. Signals only leave a token in the queue.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from queue import Empty, SimpleQueue
from typing import TypeAlias

from ..planner.estimate import REHEARSAL
from ..planner.events import SCHEMA, Event, Metric, Note, Outcome, Phase, PhasePeak, Start
from ..profiles.units import format_size
from .checkpoints import list_checkpoints
from .diagnose import diagnose
from .evidence import Evidence, Stop
from .gauges import gauges_of_run
from .guard import Alarm, Guard, Patience
from .limit import Counted, DeviceLimit, Limiter, Strategy, Watch, count, impose, machine_oom_kills
from .monitor import Monitor, Reading
from .phase_peaks import PhasePeaks
from .recorder import Recorder
from .retry import Adjust, Retry, RunFacts
from .run_folder import RunFolder
from .worker_process import WorkerProcess, last_lines

_POLL_S = 0.1
_LAST_WORDS_S = 2.0
_STACKS_S = 1.0
"""How long a hanging worker gets to write its stacks."""
_BEFORE_A_LEAVE = ("near limit", "replanned")
"""Stops for which the worker was asked to leave by lplan itself: then the user's word only ends the tries."""


class _Interrupt:
    """The user wants the run to end."""


class _OverLimit:
    """The monitor saw too much memory and has killed the worker."""


_Item: TypeAlias = Event | Reading | _Interrupt | _OverLimit


class Attempt:
    """Starts a worker, holds it to its budget, watches and records it, and says how it ended.

    `adjust` is asked after a rehearsal, with what it needed: the worker then waits for the answer, and leaves
    before its first step if there is a better way to start it (`instead`).
    """

    def __init__(
        self,
        folder: RunFolder,
        facts: RunFacts,
        record: Recorder,
        *,
        budget_bytes: int,
        grace_s: float,
        adjust: Adjust | None = None,
        patience: Patience | None = None,
    ) -> None:
        self._folder = folder
        self._facts = facts
        self._limiter: Limiter = Watch(budget_bytes)
        self._record = record
        self._grace_s = grace_s
        self._adjust = adjust
        self._started_s = time.monotonic() - folder.recorded_s()
        self._oom_kills_before = machine_oom_kills()
        self._queue: SimpleQueue[_Item] = SimpleQueue()
        self._peaks = PhasePeaks()
        self._guard = Guard(
            limit_bytes=budget_bytes,
            planned_bytes=facts.planned_peak_bytes,
            step_s=facts.step_s,
            device_total_bytes=facts.device_total_bytes,
            patience=patience or Patience(),
        )
        self._stop: Stop | None = None
        self._warning: str | None = None
        self._deadline_s = float("inf")
        self._phase: str | None = None
        self._step: int | None = next((one.step for one in list_checkpoints(folder.checkpoints)), None)
        self._told: Outcome | None = None
        self._anonymous_bytes = 0
        self._log_began = folder.log.stat().st_size if folder.log.is_file() else 0
        self.instead: Retry | None = None

    @property
    def asked_to_end(self) -> bool:
        """Whether the user wanted the run to end."""
        return self._stop in ("asked", "killed")

    def interrupt(self) -> None:
        """The user wants the run to end; may be called from a signal handler."""
        self._queue.put(_Interrupt())

    def go(
        self, argv: Sequence[str], environment: Mapping[str, str], strategies: Sequence[Strategy]
    ) -> Outcome:
        """Run `argv` to its end. Whatever happens, an exception of a viewer included, no process is left."""
        try:
            worker = WorkerProcess.start(
                argv, environment=environment, log=self._folder.log, started_s=self._started_s
            )
        except OSError as error:
            self._announce("none")
            return self._conclude(None, (str(error),))
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
            counted = count(self._limiter)
            self._limiter.close()
        reader.join(_LAST_WORDS_S)
        while not self._queue.empty():
            self._take(self._queue.get(), None)
        return self._conclude(exit_status, last_lines(self._folder.log, since=self._log_began), counted)

    def _limit(self, worker: WorkerProcess, strategies: Sequence[Strategy]) -> None:
        self._limiter, refusals = impose(
            worker.pid, self._limiter.limit_bytes, self._facts.mapped_bytes, strategies
        )
        if isinstance(self._limiter, DeviceLimit):
            self._guard.of_gpu()
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
            if self._stop is None and self._guard.hangs(time.monotonic(), counts=not worker.stopped()):
                self._end_hanging(worker)

    def _take(self, item: _Item, worker: WorkerProcess | None) -> None:
        match item:
            case Reading(sample=sample):
                self._peaks.add(item)
                self._anonymous_bytes = max(self._anonymous_bytes, sample.anonymous_bytes)
                self._record(sample)
                self._act(self._guard.sample(sample), worker)
            case _Interrupt():
                self._on_interrupt(worker)
            case _OverLimit():
                self._stop = "over limit"
            case _:
                self._act(self._guard.event(item), worker)
                self._take_event(item, worker)

    def _take_event(self, event: Event, worker: WorkerProcess | None) -> None:
        """What the worker tells."""
        match event:
            case Outcome():
                self._told = event
            case PhasePeak(name=name):
                self._end_phase(event.t_s, event)
                if name == REHEARSAL and worker is not None:
                    self._answer(event, worker)
            case Phase():
                self._end_phase(event.t_s)
                self._peaks.begin(event.name, event.t_s)
                self._phase = event.name
                self._record(event)
            case _:
                self._record(event)
                if isinstance(event, Metric):
                    self._step = event.step

    def _answer(self, peak: PhasePeak, worker: WorkerProcess) -> None:
        """The rehearsed worker waits for this: it goes on, or leaves for another start."""
        if self._adjust is not None and self._stop is None:
            self.instead = self._adjust(peak)
        if self.instead is None:
            worker.tell_to_go_on()
            return
        self._stop = "replanned"
        self._deadline_s = time.monotonic() + self._grace_s
        worker.ask_to_leave()

    def _act(self, alarm: Alarm | None, worker: WorkerProcess | None) -> None:
        if alarm is None or worker is None or self._stop is not None:
            return
        if alarm.act == "free caches":
            worker.ask_to_free()
            self._note(f"{alarm.text}; the worker is asked to free caches after its step")
            return
        self._stop, self._warning = "near limit", alarm.text
        self._deadline_s = time.monotonic() + self._grace_s
        worker.ask_to_leave()
        self._note(f"{alarm.text}, though caches were freed; the worker finishes its step, saves and leaves")

    def _on_interrupt(self, worker: WorkerProcess | None) -> None:
        if worker is None:
            return
        if self._stop is None:
            self._stop = "asked"
            self._deadline_s = time.monotonic() + self._grace_s
            worker.ask_to_leave()
            self._note("stopping: the worker finishes its step, saves and leaves; once more ends it at once")
        elif self._stop in _BEFORE_A_LEAVE:
            self._stop = "asked"
        else:
            self._end_worker(worker)

    def _end_worker(self, worker: WorkerProcess) -> None:
        self._stop = "killed"
        worker.kill(self._limiter.members)

    def _end_hanging(self, worker: WorkerProcess) -> None:
        self._stop, self._warning = "hang", f"no sign of life for {self._guard.silent_s:.0f} s"
        self._note(f"{self._warning}: the worker's stacks go to {self._folder.log.name}, and it is ended")
        worker.ask_for_stacks()
        time.sleep(_STACKS_S)
        worker.kill(self._limiter.members)

    def _end_phase(self, t_s: float, told: PhasePeak | None = None) -> None:
        peak = self._peaks.end(t_s, told)
        if peak is None:
            return
        self._record(peak)
        if peak.name == REHEARSAL and self._stop is None and told is not None:
            self._note(
                f"rehearsed two steps, an evaluation and a checkpoint on the longest samples: "
                f"{format_size(peak.measured_bytes)} measured, "
                f"{format_size(self._facts.planned_rehearsal_bytes)} planned"
            )

    def _conclude(
        self, exit_status: int | None, log_tail: tuple[str, ...], counted: Counted | None = None
    ) -> Outcome:
        self._end_phase(self._now_s())
        counted = counted or Counted()
        return diagnose(
            Evidence(
                t_s=self._now_s(),
                exit_status=exit_status,
                stop=self._stop,
                warning=self._warning,
                limiter=self._limiter.name,
                limit_bytes=self._limiter.limit_bytes,
                limit_now_bytes=counted.limit_bytes,
                limiter_peak_bytes=counted.peak_bytes,
                limiter_oom_kills=counted.oom_kills,
                machine_oom_kills=machine_oom_kills() - self._oom_kills_before,
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
