"""A run as lines of text, for logs and pipes; or as one line, for those who want to hear only the end."""

from __future__ import annotations

from collections.abc import Iterator
from types import TracebackType

from rich.console import Console, ConsoleOptions, RenderableType
from rich.text import Text

from ..planner.estimate import REHEARSAL, RESUME, ByteRange, Estimate, as_run
from ..planner.events import Answer, Evaluation, Event, Metric, Note, Outcome, Phase, PhasePeak, Start
from ..profiles.units import format_size, gib
from .run import outcome_line
from .style import WARN, Adaptive
from .summary import RunSummary
from .wording import clock, duration, enforcement, harmless, rate

_METRIC_EVERY_S = 1.0


def note_line(note: Note) -> RenderableType:
    """A note with its time."""
    return _stamped(note, Text(note.text))


def answer_line(answer: Answer) -> RenderableType:
    """A sample answer with its time."""
    return _stamped(answer, _answer(answer))


def _answer(answer: Answer) -> Text:
    words = [harmless(text) for text in (answer.request, answer.text, answer.wanted)]
    return Text(f"asked “{words[0]}”, it answers “{words[1]}” (wanted: “{words[2]}”)")


def _stamped(event: Event, text: Text) -> RenderableType:
    return _adaptive(Text.assemble((f"{clock(event.t_s):>7}  ", "dim"), text))


def _adaptive(text: Text) -> RenderableType:
    def draw(_: ConsoleOptions) -> Iterator[RenderableType]:
        yield text

    return Adaptive(draw)


class PlainView:
    """A line for every phase, note and evaluation, for steps at most one a second, and for the end."""

    def __init__(self, console: Console, estimate: Estimate | None = None) -> None:
        self._console = console
        self._planned: dict[str, ByteRange] = {}
        if estimate is not None:
            self.plan(estimate)
        self._summary = RunSummary()
        self._metric_s = float("-inf")

    def __enter__(self) -> PlainView:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def plan(self, estimate: Estimate) -> None:
        """What is planned from now on."""
        self._planned = {phase.name: phase.peak for phase in as_run(estimate, (REHEARSAL, RESUME))}

    def handle(self, event: Event) -> None:
        """Print what the event is worth, if anything."""
        self._summary.add(event)
        text = self._line(event)
        if text is not None:
            self._console.print(_stamped(event, text), soft_wrap=True)

    def _line(self, event: Event) -> Text | None:
        match event:
            case Start():
                return _start(event)
            case Phase():
                return Text(f"phase: {event.name}")
            case PhasePeak():
                return self._peak(event)
            case Metric():
                return self._metric(event)
            case Evaluation():
                return Text(
                    f"held-out loss {event.loss:.3f} after step {event.step} ({event.samples} samples)"
                )
            case Answer():
                return _answer(event)
            case Note():
                return Text(event.text)
            case Outcome():
                return outcome_line(event)
            case _:
                return None

    def _peak(self, event: PhasePeak) -> Text:
        text = Text(f"{event.name} reached {format_size(event.measured_bytes)}")
        planned = self._planned.get(event.name)
        if planned is not None:
            span = f"{gib(planned.low_bytes)}–{gib(planned.high_bytes)}"
            text.append(f", planned {gib(planned.expected_bytes)} ({span})")
            if event.measured_bytes > planned.high_bytes:
                text.append(", above plan", style=WARN)
        return text

    def _metric(self, event: Metric) -> Text | None:
        start = self._summary.start
        is_last = start is not None and event.step >= start.total_steps
        if event.t_s - self._metric_s < _METRIC_EVERY_S and not is_last:
            return None
        self._metric_s = event.t_s
        return Text("  ".join(self._figures(event)))

    def _figures(self, event: Metric) -> Iterator[str]:
        start = self._summary.start
        yield f"step {event.step}/{start.total_steps}" if start else f"step {event.step}"
        if event.loss is not None:
            yield f"loss {event.loss:.3f}"
        if self._summary.recent_tokens_per_s is not None:
            yield f"{rate(self._summary.recent_tokens_per_s)} tokens/s"
        if self._summary.sample is not None:
            yield format_size(self._summary.sample.used_bytes)
        if self._summary.left_s is not None:
            yield f"{duration(self._summary.left_s)} left"


def _start(event: Start) -> Text:
    planned = f"planned peak {gib(event.planned_peak_bytes)} of {format_size(event.budget_bytes)}"
    return Text(
        f"{event.model} → {event.run}: {event.total_steps} steps, {planned}, {enforcement(event.limiter)}"
    )


class QuietView(PlainView):
    """Nothing but how it ended."""

    def handle(self, event: Event) -> None:
        """Print the outcome."""
        if isinstance(event, Outcome):
            self._console.print(_adaptive(outcome_line(event)), soft_wrap=True)
