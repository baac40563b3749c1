"""Any process, watched: its memory over time as a picture on a terminal, a line a second without one."""

from __future__ import annotations

from collections.abc import Iterator
from types import TracebackType

from rich.console import Console, ConsoleOptions, RenderableType
from rich.text import Text

from ..planner.events import Sample
from ..profiles.units import format_size
from .graph import MemoryGraph, legend
from .redrawing import Redrawing
from .style import MUTED, STRONG, Adaptive
from .summary import MemoryTrack

_ROWS = 12
_LINE_EVERY_S = 1.0
_DRAW_EVERY_S = 0.2


def process_line(sample: Sample) -> str:
    """A sample in words, with what is known of its group, of the pressure on memory and of the GPU."""
    return f"{format_size(sample.rss_bytes)} after {sample.t_s:.1f} s: {', '.join(_figures(sample))}"


def _figures(sample: Sample) -> Iterator[str]:
    yield f"{format_size(sample.anonymous_bytes)} anonymous"
    yield f"{format_size(sample.file_bytes)} file-backed"
    if sample.swap_bytes:
        yield f"{format_size(sample.swap_bytes)} swapped"
    yield from _around(sample)


def _around(sample: Sample) -> Iterator[str]:
    if sample.pressure_some is not None:
        yield f"waiting for memory {sample.pressure_some:.0f} %"
    if sample.cgroup_bytes is not None:
        yield f"control group {format_size(sample.cgroup_bytes)}"
    if sample.limit_hits:
        yield f"limit hit {sample.limit_hits:,} times"
    if sample.device_bytes is not None:
        yield f"{format_size(sample.device_bytes)} on the GPU"
    elif sample.device_used_bytes is not None:
        yield f"GPU {format_size(sample.device_used_bytes)} in all"


class ProcessView:
    """Shows samples as they come, between `__enter__` and `__exit__`, and at the end the highest.

    `limit_bytes` is that of the process's control group, None without one.
    """

    def __init__(self, console: Console, title: str, limit_bytes: int | None) -> None:
        self._console = console
        self._title = title
        self._limit_bytes = limit_bytes
        self._track = MemoryTrack()
        self._sample: Sample | None = None
        self._highest: Sample | None = None
        self._shown_s = float("-inf")
        self._live = Redrawing(self.picture, console)
        self._draws = console.is_terminal and not console.is_dumb_terminal

    def __enter__(self) -> ProcessView:
        if self._draws:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._draws:
            self._live.stop()
        if self._highest is not None:
            self._console.print(f"at most {process_line(self._highest)}", soft_wrap=True)

    def handle(self, sample: Sample) -> None:
        """Take one sample into account; show it if the last that was shown is old enough."""
        self._track.add(sample)
        self._sample = sample
        self._highest = max(self._highest or sample, sample, key=lambda one: one.rss_bytes)
        recent = sample.t_s - self._shown_s < (_DRAW_EVERY_S if self._draws else _LINE_EVERY_S)
        if recent and not (self._draws and self._live.resized()):
            return
        self._shown_s = sample.t_s
        if self._draws:
            self._live.refresh()
        else:
            self._console.print(process_line(sample), soft_wrap=True)

    def picture(self) -> RenderableType:
        """Memory so far, for whatever width and height it is drawn at."""

        def draw(options: ConsoleOptions) -> Iterator[RenderableType]:
            yield Text(self._title, style=STRONG, no_wrap=True, overflow="ellipsis")
            if self._sample is None:
                return
            graph = MemoryGraph(
                track=self._track,
                now_s=self._sample.t_s,
                plan_bytes=None,
                budget_bytes=self._limit_bytes,
                budget_name="limit",
                width=options.max_width,
                height=max(1, min(_ROWS, options.size.height - 5)),
            )
            yield from graph.lines()
            yield legend(self._sample, None, self._limit_bytes, "limit")
            yield Text(", ".join(_around(self._sample)), style=MUTED, no_wrap=True, overflow="ellipsis")

        return Adaptive(draw)
