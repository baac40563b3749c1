"""Draws what this machine's runs were like, and what was learned from them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import ConsoleOptions, RenderableType
from rich.text import Text

from ..planner.calibration import Calibration, Trial
from ..planner.drift import Era
from ..planner.history import RunRecord
from ..profiles.units import gib
from .style import BAD, GOOD, MUTED, NOTHING, STRONG, Adaptive, ruled_table
from .wording import rate

_MEDIUM, _WIDE = 100, 150
_HEADS = ("when", "model", "batch", "predicted", "measured", "error", "tokens/s", "ended", "folder")
_FROM = {"batch": _MEDIUM, "predicted": _MEDIUM, "folder": _WIDE}
"""The width from which a column is shown."""
_MODEL = 19
_MIB = 1 << 20
_NO_RUNS = "no runs yet: `lplan fit-and-train` adds one"


def history_view(records: Sequence[RunRecord]) -> RenderableType:
    """A run a row, the newest last; the folder where there is room."""
    if not records:
        return Text(_NO_RUNS)

    def draw(options: ConsoleOptions) -> Iterator[RenderableType]:
        heads = [head for head in _HEADS if options.max_width >= _FROM.get(head, 0)]
        table = ruled_table()
        for head in heads:
            left = head in ("when", "model", "ended", "folder")
            table.add_column(head, justify="left" if left else "right", no_wrap=True)
        for record in records:
            cells = dict(zip(_HEADS, _cells(record), strict=True))
            table.add_row(*(cells[head] for head in heads))
        yield table
        yield Text("peaks in GiB; error: the prediction is too high (+) or too low (-)", style=MUTED)

    return Adaptive(draw)


def calibration_view(calibration: Calibration, trial: Trial) -> RenderableType:
    """Offsets by phase, and what they do for runs that were left out."""

    def draw(_options: ConsoleOptions) -> Iterator[RenderableType]:
        table = ruled_table()
        table.add_column("phase")
        table.add_column("offset, MiB", justify="right")
        for name, offset in calibration.offsets.items():
            table.add_row(name, f"{offset / _MIB:+.0f}")
        yield table
        yield ""
        yield Text(
            f"mean error of the peak over {trial.runs} runs, each left out in turn: "
            f"{trial.before:.2%} before, {trial.after:.2%} after".replace("%", "\N{NO-BREAK SPACE}%")
        )
        if trial.helps:
            yield Text(
                "kept: estimates for this machine add these; `lplan calibrate --undo` takes them back",
                style=GOOD,
            )
        else:
            yield Text("not kept: it does not help runs that it has not seen; nothing was changed", style=BAD)

    return Adaptive(draw)


def drift_view(found: Sequence[Era]) -> RenderableType:
    """A set of versions a row."""
    if not found:
        return Text(_NO_RUNS)

    def draw(_options: ConsoleOptions) -> Iterator[RenderableType]:
        table = ruled_table()
        for head in ("since", "versions that changed", "runs", "mean error", "lowest", "speed"):
            left = head in ("since", "versions that changed")
            table.add_column(
                head, justify="left" if left else "right", no_wrap=head != "versions that changed"
            )
        for era in found:
            changed = ", ".join(
                f"{name} {version.partition('+')[0]}" for name, version in era.changed.items()
            )
            table.add_row(
                _day(era.since), changed, str(era.runs), _share(era.mean_error), _share(era.lowest_error),
                NOTHING if era.speed is None else f"{era.speed:.2f} ×",
            )  # fmt: skip
        yield table
        yield Text(
            "errors of the predicted peak; speed: measured against predicted tokens/s, median", style=MUTED
        )

    return Adaptive(draw)


def _cells(record: RunRecord) -> Iterator[str | Text]:
    recipe = record.recipe
    yield f"{_day(record.time)} {record.time[11:16]}"
    yield Text(_short(record.model.rpartition("/")[2]), style=STRONG)
    yield f"{recipe.get('batch_size')}×{recipe.get('accumulation')}×{recipe.get('seq_len')}"
    yield gib(record.predicted_bytes)
    yield gib(record.measured_bytes) if record.measured_bytes else NOTHING
    yield NOTHING if record.error is None else _share(record.error)
    yield NOTHING if record.measured_tokens_per_s is None else rate(record.measured_tokens_per_s)
    yield Text(record.verdict, style=GOOD if record.verdict == "done" else BAD)
    yield Text(record.folder, style=MUTED)


def _short(name: str) -> str:
    return name if len(name) <= _MODEL else f"{name[: _MODEL - 1]}…"


def _day(time: str) -> str:
    return time[:10]


def _share(error: float) -> str:
    return f"{error:+.1%}".replace("%", " %")
