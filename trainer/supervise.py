"""The parent of a run: one attempt after another, recorded in one place, until one of them is the end."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from ..planner.events import Event, Note, Outcome
from .attempt import Attempt
from .guard import Patience
from .interrupts import Interrupts
from .limit import STRATEGIES, Strategy
from .recorder import Recorder
from .retry import Adjust, Recover, Retry, RunFacts
from .run_folder import RunFolder

GRACE_S = 120.0
"""How long a worker that was asked to leave may go on, to finish its step and save."""


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
    adjust: Adjust | None = None,
    patience: Patience | None = None,
) -> Outcome:
    """Run `argv` with `environment` added to ours, held to `budget_bytes`; its outcome, also the last event.

    `on_event` gets every event in this thread, after it was written. Ctrl-C, SIGTERM or SIGHUP once asks the
    worker to save and leave, twice ends it. `recover` may have a run that ended start again, `adjust` one that
    was only rehearsed. Whatever happens, an exception of `on_event` included, no process of the run is left.
    Raises UsageError if another run is going on in the folder, LplanError if it cannot be written.
    """
    with folder.lock(), Recorder(folder.events, on_event) as record:
        while True:
            attempt = Attempt(
                folder,
                start,
                record,
                budget_bytes=budget_bytes,
                grace_s=grace_s,
                adjust=adjust,
                patience=patience,
            )
            with Interrupts(attempt.interrupt):
                outcome = attempt.go(argv, environment, strategies)
            retry, why = attempt.instead, ""
            if retry is None and recover is not None and not attempt.asked_to_end:
                retry, why = _recovered(recover, outcome, record), f"{outcome.explanation}; "
            if retry is None or attempt.asked_to_end:
                record(outcome)
                return outcome
            record(Note(t_s=outcome.t_s, text=f"{why}{retry.text}"))
            environment, start, budget_bytes = retry.environment, retry.start, retry.budget_bytes


def _recovered(recover: Recover, outcome: Outcome, record: Recorder) -> Retry | None:
    """What comes next, unless the user wants it to end: then it has ended as it did."""
    try:
        with Interrupts(lambda: None, patience=1):
            return recover(outcome, lambda text: record(Note(t_s=outcome.t_s, text=text)))
    except KeyboardInterrupt:
        record(Note(t_s=outcome.t_s, text="stopped while a smaller plan was sought"))
        return None
