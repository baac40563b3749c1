"""Draws the models that lplan knows by name."""

from __future__ import annotations

from collections.abc import Iterable

from rich.table import Table
from rich.text import Text

from ..profiles.model import ModelProfile
from ..profiles.units import gib
from .style import MUTED, NOTHING, Adaptive, ruled_table

_ONE_LINE_COLUMNS = 110
_CLASS_ENDINGS = ("ForCausalLM", "LMHeadModel")


def models_table(profiles: Iterable[ModelProfile]) -> Adaptive:
    """Alias, hub id, architecture, parameters, dtype and size on disk, a model a row.

    Where there are fewer than 110 columns the hub id moves under the alias.
    """
    shown = tuple(profiles)
    return Adaptive(lambda options: [_table(shown, wide=options.max_width >= _ONE_LINE_COLUMNS)])


def parameters_text(parameters: int | None) -> str:
    """Such as 1.10 B or 135 M; a dot where the count is not known."""
    if parameters is None:
        return NOTHING
    if parameters >= 999_500_000:
        return f"{parameters / 1e9:.2f} B"
    return f"{parameters / 1e6:.0f} M"


def _table(profiles: Iterable[ModelProfile], *, wide: bool) -> Table:
    table = ruled_table()
    table.add_column("alias", no_wrap=True)
    if wide:
        table.add_column("hub id", no_wrap=True)
    table.add_column("class", no_wrap=True)
    table.add_column("params", justify="right", no_wrap=True)
    table.add_column("dtype", no_wrap=True)
    table.add_column("GiB", justify="right", no_wrap=True)
    for profile in profiles:
        table.add_row(*_names(profile, wide=wide), *_figures(profile))
    return table


def _names(profile: ModelProfile, *, wide: bool) -> tuple[Text, ...]:
    alias, hub_id = Text(profile.alias or profile.id), Text(profile.id, style=MUTED)
    if wide:
        return alias, hub_id
    return (Text.assemble(alias, "\n  ", hub_id) if profile.alias else alias,)


def _figures(profile: ModelProfile) -> tuple[str, ...]:
    architecture = profile.architecture
    for ending in _CLASS_ENDINGS:
        architecture = architecture.removesuffix(ending)
    size = gib(profile.weights.total_bytes) if profile.weights.total_bytes else NOTHING
    return architecture, parameters_text(profile.parameters), profile.weights.dtype, size
