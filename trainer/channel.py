"""The worker's way to its parent: events through an inherited pipe, never by writing files.

The parent says where in the environment: LPLAN_EVENTS_FD is the pipe, LPLAN_RUN_STARTED the instant (seconds
of CLOCK_MONOTONIC, which all processes of a Linux machine share) from which `t_s` counts. Without them a
worker runs alone and every method here does nothing.
"""

from __future__ import annotations

import atexit
import math
import os
import signal
import threading
import time
from collections.abc import Callable, Mapping

from ..planner.events import (
    Answer,
    Evaluation,
    Event,
    Metric,
    Note,
    Outcome,
    Phase,
    PhasePeak,
    Verdict,
    to_line,
)
from ..profiles.secrets import redacted
from .cgroup_limit import leave_orphaned
from .process_tree import reset_high_water, usage_of

EVENTS_FD = "LPLAN_EVENTS_FD"
RUN_STARTED = "LPLAN_RUN_STARTED"
ORPHAN_GRACE_S = 60
"""How long a worker may go on, to save, after its parent is gone."""


class Channel:
    """Reports to the parent. If the parent is gone, the worker is told to leave, and made to in the end.

    Told means SIGTERM, as from the parent itself; made means SIGALRM's default action after
    ORPHAN_GRACE_S, which ends the process whatever its threads do.
    """

    def __init__(self, fd: int | None, started_s: float) -> None:
        self._fd = fd
        self._started_s = started_s
        self._parent = os.getppid()
        self._lock = threading.Lock()
        self._phase: str | None = None
        self._exact = False
        self.device_peak: Callable[[], int] | None = None
        """Bytes of a GPU that this process held at most since the last call; None on a CPU."""
        self.device_memory: Callable[[], Mapping[str, int]] | None = None
        """Metric's `allocated_bytes` and `reserved_bytes` of now; None on a CPU."""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Channel:
        """The channel that the parent opened, or one that does nothing. Call it once, early."""
        try:
            fd = int(environment[EVENTS_FD])
            started_s = float(environment[RUN_STARTED])
            os.set_inheritable(fd, False)  # what the worker starts has nothing to say here
        except (KeyError, ValueError, OSError):
            return cls(None, time.monotonic())
        return cls(fd, started_s)

    def phase(self, name: str) -> None:
        """Enter a phase; ends the one before with its peak."""
        if self._fd is None:
            return
        self.phase_peak()
        self._exact = reset_high_water()
        self._phase = name
        self._send(Phase(t_s=self._now_s(), name=name))

    def phase_peak(self) -> None:
        """End the present phase, if any, with its peak: the kernel's high-water mark of this process.

        Where the mark cannot be reset, the memory of this instant is sent, and the parent's samples decide.
        """
        usage = usage_of("self") if self._fd is not None and self._phase is not None else None
        if usage is not None and self._phase is not None:
            mark_bytes = usage.high_water_bytes if self._exact else None
            rss_bytes = max(mark_bytes or 0, usage.rss_bytes)
            self._send(
                PhasePeak(
                    t_s=self._now_s(),
                    name=self._phase,
                    rss_bytes=rss_bytes,
                    anonymous_bytes=rss_bytes - usage.file_bytes,
                    file_bytes=usage.file_bytes,
                    device_bytes=self.device_peak() if self.device_peak is not None else None,
                )
            )
        self._phase = None

    def metric(
        self, *, step: int, loss: float | None, learning_rate: float | None, tokens: int, step_s: float
    ) -> None:
        """One optimizer step is done. A loss that is no number is sent as None: JSON has no NaN."""
        finite = loss if loss is not None and math.isfinite(loss) else None
        self._send(
            Metric(
                t_s=self._now_s(),
                step=step,
                loss=finite,
                learning_rate=learning_rate,
                tokens=tokens,
                step_s=step_s,
                **(self.device_memory() if self.device_memory is not None else {}),
            )
        )

    def evaluation(self, *, step: int, loss: float, samples: int) -> None:
        """Held-out loss after `step`; a loss that is no number becomes a note."""
        if math.isfinite(loss):
            self._send(Evaluation(t_s=self._now_s(), step=step, loss=loss, samples=samples))
        else:
            self.note(f"the held-out loss after step {step} is {loss}")

    def answer(self, *, step: int, request: str, wanted: str, text: str) -> None:
        """What the model answers a held-out request after `step`."""
        self._send(Answer(t_s=self._now_s(), step=step, request=request, wanted=wanted, text=text))

    def note(self, text: str) -> None:
        """A sentence for the reader."""
        self._send(Note(t_s=self._now_s(), text=redacted(text)))

    def failure(
        self, explanation: str, *, hint: str | None = None, exit_code: int = 1, repeats: bool | None = None
    ) -> None:
        """Why the worker is about to leave with an error status: an LplanError's line, hint and status."""
        self._end("failed", explanation, hint, exit_code, repeats)

    def left(self) -> None:
        """The worker was told to leave, and has."""
        self._end("interrupted", "told to end")

    def _end(
        self,
        verdict: Verdict,
        explanation: str,
        hint: str | None = None,
        exit_code: int = 1,
        repeats: bool | None = None,
    ) -> None:
        self._send(
            Outcome(
                t_s=self._now_s(),
                verdict=verdict,
                explanation=redacted(explanation),
                hint=None if hint is None else redacted(hint),
                exit_code=exit_code,
                phase=self._phase,
                step=None,
                repeats=repeats,
            )
        )

    @property
    def connected(self) -> bool:
        """Whether there is a parent to report to."""
        return self._fd is not None

    def _now_s(self) -> float:
        return round(time.monotonic() - self._started_s, 4)

    def _send(self, event: Event) -> None:
        if self._fd is None:
            return
        rest = to_line(event).encode()
        try:
            with self._lock:
                while rest:
                    rest = rest[os.write(self._fd, rest) :]
        except OSError:
            self._leave()
            return
        if os.getppid() != self._parent:
            self._leave()

    def _leave(self) -> None:
        self._fd = None
        atexit.register(leave_orphaned)
        signal.alarm(ORPHAN_GRACE_S)
        os.kill(os.getpid(), signal.SIGTERM)
