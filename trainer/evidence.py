"""All that is known when a run has ended: what kernel, parent and worker saw."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..planner.events import Outcome
from ..profiles.units import format_size

Stop = Literal["asked", "killed", "over limit", "near limit", "hang", "replanned"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Evidence:
    """All that is known when a run has ended.

    `exit_status` is negative for a signal, None if the worker could not even be launched. `stop` says what
    the parent did: asked it to leave at the user's word, for what was coming, or for a better plan; killed it at
    the user's word, over the limit, or as it hung. `limiter_peak_bytes` is what the limit itself counted (None if
    it does not count), `anonymous_bytes` the highest sample. `machine_oom_kills` are those of the whole machine
    during the run. `told` is the worker's own account of its end.
    """

    t_s: float
    exit_status: int | None
    stop: Stop | None
    limiter: str
    limit_bytes: int
    limiter_peak_bytes: int | None
    limiter_oom_kills: int
    machine_oom_kills: int
    anonymous_bytes: int
    phase: str | None
    step: int | None
    """The last optimizer step that was finished."""
    total_steps: int
    told: Outcome | None
    log_tail: tuple[str, ...]
    log: Path
    limit_now_bytes: int | None = None
    """The limit at the end, where somebody could have changed it."""
    warning: str | None = None
    """What the parent saw before it stopped the worker of its own accord."""

    @property
    def where(self) -> str:
        """As in "during the steady step, after step 11"."""
        during = f"during the {self.phase} phase" if self.phase else "before its first phase"
        if self.phase in ("rehearsal", "first step", "steady step", "evaluation"):
            during = f"during the {self.phase}"
        return f"{during}, after step {self.step}" if self.step else during

    def summary(self) -> str:
        """What was counted and read, in one line: why one should believe the explanation."""
        return "; ".join(self._facts())

    def _facts(self) -> Iterator[str]:
        status = self.exit_status
        if status is not None:
            yield (
                f"the worker ended by {signal.Signals(-status).name}"
                if status < 0
                else f"exit status {status}"
            )
        if self.limiter_oom_kills:
            yield f"its control group counts {_kills(self.limiter_oom_kills)}"
        if self.machine_oom_kills > self.limiter_oom_kills:
            others = self.machine_oom_kills - self.limiter_oom_kills
            yield f"the machine counts {_kills(others)} outside the run's control group"
        if self.limiter_peak_bytes is not None:
            yield f"at most {format_size(self.limiter_peak_bytes)} charged to the control group"
        if self.anonymous_bytes:
            yield f"at most {format_size(self.anonymous_bytes)} anonymous in the samples"


def _kills(number: int) -> str:
    return f"{number} kill{'s' if number > 1 else ''} for memory"
