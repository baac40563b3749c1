"""Charts of the page as SVG: no script, no network; colours are the page's variables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from typing import Any, TypeAlias

from ..profiles.units import GIB, gib
from .wording import duration

_WIDTH, _HEIGHT = 720, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 50, 8, 14, 44
_OFF_SCALE = 3.0
"""A plan or limit more than this many times what was used is left out of the drawing."""
_LEAST_LABEL = 46
"""Units of width that a phase's name needs."""

STYLE = """
.axis{stroke:var(--line);stroke-width:1}.tick{fill:var(--muted);font-size:12px}
.anonymous{fill:var(--anonymous);opacity:.85}.file{fill:var(--file);opacity:.85}
.plan{stroke:var(--plan);stroke-width:2;stroke-dasharray:6 4}.limit{stroke:var(--limit);stroke-width:2}
@media(max-width:520px){.tick{font-size:18px}}
.curve{fill:none;stroke:var(--anonymous);stroke-width:2;stroke-linejoin:round}
.held{fill:var(--plan)}.phase{stroke:var(--line);stroke-dasharray:2 3}
"""
LIGHT = ("#c9ced6", "#56606e", "#2563a8", "#9cc3e6", "#0b7a4b", "#c02f1d")
DARK = ("#3c4654", "#a3adba", "#6aaef0", "#2f5f8c", "#4cc38a", "#ff7a66")


def used_of(measured: Mapping[str, Any]) -> int:
    """What the plan is held against, of a sample or a phase's peak: the GPU's memory in a run on one."""
    device_bytes = measured.get("device_bytes")
    return int(measured["rss_bytes"] if device_bytes is None else device_bytes)


def _file_backed(sample: Mapping[str, Any]) -> int:
    return int(sample["file_bytes"]) if sample.get("device_bytes") is None else 0


Stretch: TypeAlias = tuple[float, float, int]
"""From and until when, in seconds, so many bytes were planned or allowed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MemorySeries:
    """Memory over time, (seconds, bytes): all that is used, of it what is file-backed, and nothing."""

    total: tuple[tuple[float, int], ...]
    below: tuple[tuple[float, int], ...]
    floor: tuple[tuple[float, int], ...]
    lines: Mapping[str, tuple[Stretch, ...]]
    """The planned peak and the limit of each attempt, where they are near enough to be drawn."""
    end_s: float
    top_bytes: float


def series_of(document: Mapping[str, Any]) -> MemorySeries | None:
    """What a drawing of memory shows; None with fewer than two samples."""
    samples = document["samples"]
    if len(samples) < 2:
        return None
    seen, end_s = max(map(used_of, samples)), samples[-1]["t_s"] or 1.0
    held = {
        name: tuple(_stretches(document["attempts"], field, end_s, _OFF_SCALE * seen))
        for name, field in (("plan", "planned_peak_bytes"), ("limit", "budget_bytes"))
    }
    lines = {name: stretches for name, stretches in held.items() if stretches}
    sizes = [size for stretches in lines.values() for _, _, size in stretches]
    return MemorySeries(
        total=tuple((sample["t_s"], used_of(sample)) for sample in samples),
        below=tuple((sample["t_s"], _file_backed(sample)) for sample in samples),
        floor=tuple((sample["t_s"], 0) for sample in samples),
        lines=lines,
        end_s=end_s,
        top_bytes=1.06 * max([seen, *sizes]) or 1.0,
    )


def _stretches(
    attempts: Sequence[Mapping[str, Any]], field: str, end_s: float, most_bytes: float
) -> Iterator[Stretch]:
    """From each attempt to the next that differs."""
    begins = [(min(attempt["t_s"], end_s), attempt[field]) for attempt in attempts]
    changes = [
        one for one, before in zip(begins, [None, *begins], strict=False) if not before or one[1] != before[1]
    ]
    for (begin_s, size), (until_s, _) in pairwise([*changes, (end_s, 0)]):
        if size <= most_bytes:
            yield begin_s, until_s, size


def memory_chart(document: Mapping[str, Any]) -> str:
    """Memory over time: file-backed below, anonymous above, phases, plan and limit as lines; empty without samples."""
    series = series_of(document)
    if series is None:
        return ""
    scale = _Scale(series.end_s, series.top_bytes)
    parts = [
        _ticks(scale, [(size, gib(size)) for size in round_steps(series.top_bytes / GIB, GIB)]),
        f'<path class="anonymous" d="{scale.area(series.total, series.below)}"/>',
        f'<path class="file" d="{scale.area(series.below, series.floor)}"/>',
        *_phases(scale, document["phases"]),
    ]
    for name, stretches in series.lines.items():
        for begin_s, until_s, size in stretches:
            left, right, y = scale.x(begin_s), scale.x(until_s), scale.y(size)
            parts.append(f'<line class="{name}" x1="{left:.1f}" x2="{right:.1f}" y1="{y:.1f}" y2="{y:.1f}"/>')
    return _svg("memory", "memory over time in GiB, with the planned peak and the limit", parts)


def curve_chart(
    name: str, label: str, points: Sequence[tuple[float, float]], dots: Sequence[tuple[float, float]] = ()
) -> str:
    """A curve over steps, with single measurements as dots; empty with fewer than two points."""
    if len(points) < 2:
        return ""
    values = [value for _, value in (*points, *dots)]
    low = min(0.0, *values) if min(values) < 0.5 * max(values) else 0.95 * min(values)
    scale = _Scale(max(x for x, _ in points), 1.05 * max(values), low, seconds=False)
    ticks = [(low + (1.05 * max(values) - low) * part / 4) for part in range(5)]
    path = "M" + "L".join(f"{scale.x(x):.1f},{scale.y(y):.1f}" for x, y in points)
    parts = [_ticks(scale, [(tick, f"{tick:.3g}") for tick in ticks]), f'<path class="curve" d="{path}"/>']
    parts += [f'<circle class="held" r="5" cx="{scale.x(x):.1f}" cy="{scale.y(y):.1f}"/>' for x, y in dots]
    return _svg(name, label, parts)


class _Scale:
    def __init__(self, right: float, top: float, low: float = 0.0, *, seconds: bool = True) -> None:
        self.right, self.top, self.low, self.seconds = right or 1.0, top or 1.0, low, seconds

    def x(self, value: float) -> float:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * min(1.0, value / self.right)

    def y(self, value: float) -> float:
        return _HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * (value - self.low) / (self.top - self.low)

    def area(self, above: Sequence[tuple[float, float]], below: Sequence[tuple[float, float]]) -> str:
        edge = (*above, *reversed(below))
        return "M" + "L".join(f"{self.x(t):.1f},{self.y(v):.1f}" for t, v in edge) + "Z"


def _ticks(scale: _Scale, marks: Sequence[tuple[float, str]]) -> str:
    parts = []
    for value, text in marks:
        y = scale.y(value)
        parts.append(f'<line class="axis" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="tick" text-anchor="end" x="{_LEFT - 6}" y="{y + 4:.1f}">{text}</text>')
    end = duration(scale.right) if scale.seconds else f"step {scale.right:g}"
    parts.append(f'<text class="tick" text-anchor="end" x="{_WIDTH - _RIGHT}" y="{_HEIGHT - 4}">{end}</text>')
    return "".join(parts)


def _phases(scale: _Scale, phases: Sequence[Mapping[str, Any]]) -> list[str]:
    """A line where each phase begins; its name where there is room."""
    parts = []
    begins = [*((phase["t_s"], phase["name"]) for phase in phases), (scale.right, "")]
    for (begin, name), (end, _) in pairwise(begins):
        left, width = scale.x(begin), scale.x(end) - scale.x(begin)
        parts.append(
            f'<line class="phase" x1="{left:.1f}" x2="{left:.1f}" y1="{_TOP}" y2="{_HEIGHT - _BOTTOM}"/>'
        )
        if width >= max(_LEAST_LABEL, 9.5 * len(name)):
            parts.append(
                f'<text class="tick" x="{left + 3:.1f}" y="{_HEIGHT - _BOTTOM + 16}">{escape(name)}</text>'
            )
    return parts


def round_steps(top: float, unit: int) -> list[int]:
    """Marks of an axis up to `top` units, five or so."""
    step = next(
        (step for step in (0.1, 0.25, 0.5, 1, 2, 5, 10, 25, 50, 100, 1000) if top / step <= 5), top / 5
    )
    return [round(index * step * unit) for index in range(int(top / step) + 1)]


def _svg(name: str, label: str, parts: Sequence[str]) -> str:
    return (
        f'<svg id="{name}" role="img" aria-label="{escape(label, quote=True)}" '
        f'viewBox="0 0 {_WIDTH} {_HEIGHT}">{"".join(parts)}</svg>'
    )
