"""Draws a DataReport: the histogram, what lengths would cut, the batches, the labels, the findings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from rich.console import ConsoleOptions, RenderableType
from rich.table import Table
from rich.text import Text

from ..planner.data_report import Cut, DataReport, Finding, LabelCount, LengthBin, PaddingWaste, WorstBatch
from .style import ANONYMOUS, FULL, GOOD, MUTED, SEPARATOR, STRONG, Adaptive, ruled_table
from .wording import bullets, joined, percent, sentence

_WIDEST_BAR = 60
_ENDS = 3
"""Labels shown from either end."""


def data_view(report: DataReport) -> RenderableType:
    """Everything that there is to see of a data set, findings last."""

    def draw(options: ConsoleOptions) -> Iterator[RenderableType]:
        yield Text(f"{report.location} as {report.model} reads it", style=STRONG)
        yield joined(_facts(report), options.max_width)
        yield ""
        yield from _histogram(report.histogram, options.max_width)
        yield ""
        yield _percentiles(report.percentiles, report.answer_percentiles)
        if report.cuts:
            yield ""
            yield Text("what a sequence length would cut", style=STRONG)
            yield _cuts(report.cuts, report)
        yield ""
        yield Text("the worst batch, and how much of an epoch is padding", style=STRONG)
        yield _batches(report.worst_batches, report.padding)
        yield Text("grouped: as fit-and-train does; packed: rows as long as the whole batch", style=MUTED)
        if report.labels:
            yield ""
            yield from _labels(report.labels)
        yield ""
        yield _findings(report.findings)

    return Adaptive(draw)


def _facts(report: DataReport) -> list[str]:
    share = percent(report.supervised_tokens, report.tokens)
    return [
        *(f"{samples:,} {split}" for split, samples in report.splits.items() if samples),
        f"task {report.task}",
        report.template,
        f"{report.tokens:,} tokens, {share} carry loss",
    ]


def _histogram(bins: Sequence[LengthBin], width: int) -> Iterator[RenderableType]:
    yield Text("tokens a sequence", style=STRONG)
    most = max(each.samples for each in bins)
    digits, counts = len(f"{bins[-1].last:,}"), len(f"{most:,}")
    room = max(1, min(_WIDEST_BAR, width - 2 * digits - counts - 5))
    for each in bins:
        bar = FULL * max(each.samples > 0, round(each.samples / most * room))
        line = Text(f"{each.first:>{digits},}–{each.last:<{digits},} ", no_wrap=True)
        yield line.append(bar, style=ANONYMOUS).append(f" {each.samples:,}")


def _percentiles(total: Mapping[int, int], answers: Mapping[int, int]) -> Table:
    table = ruled_table()
    table.add_column("percent of samples")
    for head in total:
        table.add_column("longest" if head == 100 else str(head), justify="right")
    table.add_row("tokens", *(f"{number:,}" for number in total.values()))
    table.add_row("carrying loss", *(f"{number:,}" for number in answers.values()))
    return table


def _cuts(cuts: Sequence[Cut], report: DataReport) -> Table:
    table = ruled_table()
    for head in ("length", "samples cut", "", "answer tokens lost", "", "left without answer"):
        table.add_column(head, justify="right")
    for cut in cuts:
        table.add_row(
            f"{cut.seq_len:,}",
            f"{cut.samples:,}",
            Text(percent(cut.samples, report.splits["train"]), style=MUTED),
            f"{cut.answer_tokens:,}",
            Text(percent(cut.answer_tokens, report.supervised_tokens), style=MUTED),
            f"{cut.emptied:,}",
        )
    return table


def _batches(worst: Sequence[WorstBatch], padding: Sequence[PaddingWaste]) -> Table:
    table = ruled_table()
    for head in (
        "micro\nbatch",
        "worst\nbatch",
        "its\ntokens",
        "with\nloss",
        "shuffled",
        "grouped",
        "packed",
    ):
        table.add_column(head, justify="right")
    for batch, waste in zip(worst, padding, strict=True):
        shape = f"{batch.rows} × {batch.seq_len:,}"
        shares = (percent(share, 1) for share in (waste.shuffled, waste.grouped, waste.packed))
        table.add_row(str(batch.batch_size), shape, f"{batch.tokens:,}", f"{batch.supervised:,}", *shares)
    return table


def _labels(labels: Sequence[LabelCount]) -> Iterator[RenderableType]:
    yield Text(f"{len(labels)} labels", style=STRONG)
    table = ruled_table()
    for head in ("label", "train", "held out"):
        table.add_column(head, justify="left" if head == "label" else "right")
    shown = list(labels) if len(labels) <= 2 * _ENDS + 1 else [*labels[:_ENDS], None, *labels[-_ENDS:]]
    for each in shown:
        if each is None:
            table.add_row(Text(f"… {len(labels) - 2 * _ENDS} more", style=MUTED), "", "")
        else:
            table.add_row(Text(each.label), f"{each.train:,}", f"{each.held_out:,}")
    yield table


def _findings(findings: Sequence[Finding]) -> RenderableType:
    if not findings:
        return Text(
            SEPARATOR.join(("nothing to complain of: no duplicates", "no leaks", "every answer is trained")),
            style=GOOD,
        )
    return bullets(
        f"{len(findings)} to look at",
        [f"{finding.text}. {sentence(finding.reason)}" for finding in findings],
    )
