"""A run as it went so far, gathered from its events: what the live view and the end table draw."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from ..planner.events import Answer, Evaluation, Event, Metric, Note, Outcome, Phase, PhasePeak, Sample, Start

_RECENT_STEPS = 20
_KEPT_POINTS = 1024


@dataclass(frozen=True, slots=True)
class MemoryPoint:
    """The largest of a stretch of samples, which ends at `t_s`: of the GPU's memory in a run on one."""

    t_s: float
    used_bytes: int
    file_bytes: int


class MemoryTrack:
    """Memory over the whole run in bounded space: when full, every two neighbours become their larger one."""

    def __init__(self, capacity: int = _KEPT_POINTS) -> None:
        self._capacity = capacity
        self._stride = 1
        self._points: list[MemoryPoint] = []
        self._in_last = 0

    def __len__(self) -> int:
        return len(self._points)

    def add(self, sample: Sample) -> None:
        """Append a sample; samples come in order of time."""
        file_bytes = sample.file_bytes if sample.device_bytes is None else 0
        point = MemoryPoint(sample.t_s, sample.used_bytes, file_bytes)
        if 0 < self._in_last < self._stride:
            self._points[-1] = _larger(self._points[-1], point)
            self._in_last += 1
            return
        if len(self._points) == self._capacity:
            pairs = zip(self._points[::2], self._points[1::2], strict=True)
            self._points = [_larger(*pair) for pair in pairs]
            self._stride *= 2
        self._points.append(point)
        self._in_last = 1

    def columns(self, count: int, until_s: float) -> Iterator[MemoryPoint | None]:
        """The largest point of each of `count` equal spans of [0, until_s]; gaps repeat what was before."""
        points = iter(self._points)
        point = next(points, None)
        last: MemoryPoint | None = None
        for column in range(1, count + 1):
            end = until_s * column / count
            here: MemoryPoint | None = None
            while point is not None and (point.t_s <= end or column == count):
                here = _larger(here, point) if here else point
                point = next(points, None)
            last = here or last
            yield last


def _larger(first: MemoryPoint, second: MemoryPoint) -> MemoryPoint:
    larger = max(first, second, key=lambda point: point.used_bytes)
    return MemoryPoint(second.t_s, larger.used_bytes, larger.file_bytes)


@dataclass(slots=True)
class RunSummary:
    """What happened so far. Later events of a phase that is entered again raise its peak, never lower it."""

    start: Start | None = None
    phase: str | None = None
    now_s: float = 0.0
    sample: Sample | None = None
    metric: Metric | None = None
    evaluation: Evaluation | None = None
    outcome: Outcome | None = None
    steps: int = 0
    tokens: int = 0
    steps_s: float = 0.0
    losses: list[float] = field(default_factory=list)
    recent: list[Metric] = field(default_factory=list)
    peaks: dict[str, PhasePeak] = field(default_factory=dict)
    reached: dict[str, int] = field(default_factory=dict)
    """Most used in every phase so far, samples included, in bytes: of the GPU in a run on one."""
    memory: MemoryTrack = field(default_factory=MemoryTrack)

    @classmethod
    def from_events(cls, events: Iterable[Event]) -> RunSummary:
        """The summary of a whole run, such as `planner.events.read` gives."""
        summary = cls()
        for event in events:
            summary.add(event)
        return summary

    def add(self, event: Event) -> None:
        """Take one more event into account."""
        self.now_s = max(self.now_s, event.t_s)
        match event:
            case Start():
                self._begin(event)
            case Phase():
                self.phase = event.name
            case Sample():
                self._add_sample(event)
            case PhasePeak():
                self._add_peak(event)
            case Metric():
                self._add_metric(event)
            case Evaluation():
                self.evaluation = event
            case Outcome():
                self.outcome = event
            case Note() | Answer():
                pass

    def _begin(self, start: Start) -> None:
        """An attempt has a pace and an end of its own, and what others reached with another plan is not its own."""
        if self.start is not None and not start.continues(self.start):
            self.peaks.clear()
            self.reached.clear()
        self.start, self.phase, self.outcome = start, None, None
        self.recent = []

    def _add_sample(self, sample: Sample) -> None:
        self.sample = sample
        self.memory.add(sample)
        if self.phase is not None:
            self._reach(self.phase, sample.used_bytes)

    def _add_peak(self, peak: PhasePeak) -> None:
        before = self.peaks.get(peak.name, peak)
        self.peaks[peak.name] = PhasePeak(
            t_s=peak.t_s,
            name=peak.name,
            rss_bytes=max(before.rss_bytes, peak.rss_bytes),
            anonymous_bytes=max(before.anonymous_bytes, peak.anonymous_bytes),
            file_bytes=max(before.file_bytes, peak.file_bytes),
            device_bytes=None if peak.device_bytes is None else max(before.measured_bytes, peak.device_bytes),
        )
        self._reach(peak.name, peak.measured_bytes)

    def _reach(self, phase: str, used_bytes: int) -> None:
        self.reached[phase] = max(self.reached.get(phase, 0), used_bytes)

    def _add_metric(self, metric: Metric) -> None:
        self.metric = metric
        self.steps += 1
        self.tokens += metric.tokens
        self.steps_s += metric.step_s
        self.recent = [*self.recent[-_RECENT_STEPS + 1 :], metric]
        if metric.loss is not None:
            self.losses.append(metric.loss)

    @property
    def tokens_per_s(self) -> float | None:
        """Tokens per second of training over all steps; None before the first."""
        return self.tokens / self.steps_s if self.steps_s else None

    @property
    def recent_tokens_per_s(self) -> float | None:
        """Tokens per second over the last steps."""
        seconds = sum(metric.step_s for metric in self.recent)
        return sum(metric.tokens for metric in self.recent) / seconds if seconds else None

    @property
    def left_s(self) -> float | None:
        """Seconds until the last step at the recent pace; None without a pace, or after that step."""
        if self.start is None or not self.recent or self.recent[-1].step >= self.start.total_steps:
            return None
        first, last = self.recent[0], self.recent[-1]
        steps = last.step - first.step
        pace = (last.t_s - first.t_s) / steps if steps > 0 else last.step_s
        return max(0.0, (self.start.total_steps - last.step) * pace - (self.now_s - last.t_s))
