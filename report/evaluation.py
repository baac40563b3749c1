"""Draws what an evaluation found: before beside after, with intervals."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import ConsoleOptions, RenderableType
from rich.text import Text

from ..planner.evaluation import Evaluated, Interval, Latency, Loss, SampleAnswer, Score
from .style import BAD, MUTED, STRONG, WARN, Adaptive, ruled_table
from .wording import duration, rate, share

_WIDE = 100


def evaluation_view(evaluated: Evaluated) -> RenderableType:
    """A row for everything that was asked, then forgetting, speed and sample answers."""

    def draw(options: ConsoleOptions) -> Iterator[RenderableType]:
        yield Text.assemble(
            ("before and after training", STRONG), ": the same questions, adapters off and on"
        )
        yield ""
        table = ruled_table()
        wide = options.max_width >= _WIDE
        for head in ("", "asked", "before", "after", "change", *(("p",) if wide else ())):
            table.add_column(head, justify="left" if not head else "right", no_wrap=True)
        for row in _rows(evaluated):
            table.add_row(*(row if wide else row[:-1]))
        yield table
        yield Text("in brackets: 95 % intervals; of a change, paired by question", style=MUTED)
        yield ""
        yield from _remarks(evaluated)
        for sample in evaluated.samples:
            yield ""
            yield _sample(sample)

    return Adaptive(draw)


def _rows(evaluated: Evaluated) -> Iterator[tuple[str, ...]]:
    if evaluated.loss is not None:
        yield _loss_row(evaluated.loss)
    labels = f"scored, of {evaluated.labels}"
    for name, score in (
        (labels, evaluated.scored),
        ("generated", evaluated.generated),
        ("knowledge", evaluated.knowledge),
    ):
        if score is not None:
            yield _score_row(name, score)


def _loss_row(loss: Loss) -> tuple[str, ...]:
    before = "–" if loss.before is None else f"{loss.before:.3f}"
    change = "" if loss.before is None else f"{loss.after - loss.before:+.3f}"
    return "held-out loss", f"{loss.samples:,}", before, f"{loss.after:.3f}", change, ""


def _score_row(name: str, score: Score) -> tuple[str, ...]:
    before = "–" if score.before is None else share(score.before)
    change = "" if score.before is None else _change(score.after.share - score.before.share, score.difference)
    p = "" if score.p_value is None else "<0.001" if score.p_value < 0.001 else f"{score.p_value:.3f}"
    return name, f"{score.after.of:,}", before, share(score.after), change, p


def _change(points: float, interval: Interval | None) -> str:
    text = f"{100 * points:+.1f}"
    return text if interval is None else f"{text} ({100 * interval[0]:+.0f} to {100 * interval[1]:+.0f})"


def _remarks(evaluated: Evaluated) -> Iterator[Text]:
    knowledge = evaluated.knowledge
    if knowledge is not None and knowledge.before is not None:
        lost, most = 100 * knowledge.lost, 100 * evaluated.max_forgetting
        if evaluated.forgot:
            yield Text.assemble(
                ("forgetting", BAD),
                f": {lost:.1f} points of general knowledge are gone, {most:.1f} are accepted; "
                "a lower learning rate, fewer steps or a lower rank keep more",
            )
        else:
            told = f"{lost:.1f} points lost" if lost > 0 else "nothing lost"
            yield Text(f"forgetting: {told}, {most:.1f} accepted")
    scored = evaluated.scored
    if scored is not None and scored.difference is not None and scored.difference[0] <= 0:
        yield Text.assemble(("no clear gain", WARN), ": the change of the task's answers may be chance")
    if evaluated.latency is not None:
        yield _latency(evaluated.latency)
    yield Text(f"asked in {duration(evaluated.seconds)}", style=MUTED)


def _latency(latency: Latency) -> Text:
    first = duration(latency.first_token_s)
    speed = f", then {rate(latency.tokens_per_s)} tokens/s" if latency.tokens_per_s else ""
    return Text(f"generation: {first} to the first token{speed}")


def _sample(sample: SampleAnswer) -> RenderableType:
    lines = [
        Text.assemble(("asked   ", MUTED), sample.request),
        Text.assemble(("wanted  ", MUTED), sample.wanted),
    ]
    if sample.before is not None:
        lines.append(Text.assemble(("before  ", MUTED), " ".join(sample.before.split())))
    lines.append(Text.assemble(("after   ", MUTED), " ".join(sample.after.split())))
    return Text("\n").join(lines)
