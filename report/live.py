"""Watches a run: a live picture on a terminal, plain lines without one, one line when quiet.

Every view takes the run's events as they come, between `__enter__` and `__exit__`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Protocol

from rich.console import Console, ConsoleOptions, RenderableType

from ..planner.estimate import Estimate
from ..planner.events import Answer, Event, Note, Outcome
from .frame import frame
from .plain import PlainView, QuietView, answer_line, note_line
from .redrawing import Redrawing
from .style import Adaptive
from .summary import RunSummary

_REFRESHES_PER_S = 5
# A drawing takes ten milliseconds of a core, which the worker could use: it comes as rarely as this share demands.
_BUSY_SHARE = 0.01


class View(Protocol):
    """What watches a run."""

    def plan(self, estimate: Estimate) -> None:
        """What is planned from now on: a run that recovers has another plan."""

    def handle(self, event: Event) -> None:
        """Take one event into account and show it."""

    def __enter__(self) -> View: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def view_for(
    console: Console, estimate: Estimate | None = None, *, quiet: bool = False, past: Iterable[Event] = ()
) -> View:
    """The view for this console: quiet if asked, live on a terminal that can redraw, else plain lines.

    `past` is what happened in a run before it was resumed.
    """
    if quiet:
        return QuietView(console)
    if console.is_terminal and not console.is_dumb_terminal:
        return LiveView(console, estimate, past)
    return PlainView(console, estimate)


class LiveView:
    """A picture of the run that redraws itself a few times a second; notes scroll by above it.

    `estimate` gives the plan of every phase; without it only what was reached is shown. `past` is part of the
    picture from the start.
    """

    def __init__(
        self,
        console: Console,
        estimate: Estimate | None = None,
        past: Iterable[Event] = (),
        *,
        clock: Callable[[], float] = time.monotonic,
        busy: Callable[[], float] = time.thread_time,
    ) -> None:
        self.summary = RunSummary.from_events(past)
        self._estimate = estimate
        self._clock, self._busy = clock, busy
        self._due_s = float("-inf")
        self._live = Redrawing(self.picture, console)

    def __enter__(self) -> LiveView:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def plan(self, estimate: Estimate) -> None:
        """What is planned from now on."""
        self._estimate = estimate

    def handle(self, event: Event) -> None:
        """Take one event into account; draw if the last drawing is old enough for what it cost."""
        self.summary.add(event)
        if isinstance(event, Note):
            self._live.console.print(note_line(event))
        elif isinstance(event, Answer):
            self._live.console.print(answer_line(event))
        now = self._clock()
        if now >= self._due_s or isinstance(event, Outcome) or self._live.resized():
            began_s = self._busy()
            self._live.refresh()
            self._due_s = now + max(1 / _REFRESHES_PER_S, (self._busy() - began_s) / _BUSY_SHARE)

    def picture(self) -> RenderableType:
        """The run as it is now, for whatever width and height it is drawn at."""

        def draw(options: ConsoleOptions) -> Iterator[RenderableType]:
            yield from frame(self.summary, self._estimate, options.max_width, options.size.height)

        return Adaptive(draw)
