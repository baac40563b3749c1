"""An adapter into its base, without ever holding the model: shard files are copied and patched in place.

Where our formulas don't tell what an update comes to, PEFT merges it, with the whole model in memory.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ...planner.merging import BLOCK_BYTES, BLOCKS
from ...profiles.errors import DoesNotFitError, LplanError
from ...profiles.units import MIB, format_size
from ..evaluation.adapters import WEIGHTS
from .blocks import rewrite
from .by_peft import merge_by_peft, peak_by_peft
from .files import head_file, header_of, opened, places, skeleton, untie
from .updates import BeyondFilesError, Update, read_updates

_SMALLEST_BLOCK_BYTES = MIB
_BESIDE = ("*.json", "*.jinja", "*.txt", "*.model")


@dataclass(frozen=True, kw_only=True, slots=True)
class MergePlan:
    """What merging will do. `peak_bytes` is the process's, libraries included."""

    tensors: int
    """How many change; 0 where only PEFT knows."""
    block_bytes: int
    """0 where PEFT merges."""
    peak_bytes: int
    by_peft: str | None = None
    """Why PEFT merges it, with the whole model in memory; None where blocks of the files are."""
    unties: bool = False
    """Whether the head gets a weight of its own, which it shared with the embeddings."""


def plan_merge(base: Path, adapter: Path, *, libraries_bytes: int, ram_bytes: int | None) -> MergePlan:
    """What it takes.

    Raises UsageError or LplanError for what cannot be merged, DoesNotFitError for too little memory.
    """
    try:
        updates = _updates(base, adapter)
    except BeyondFilesError as why:
        needed = peak_by_peft(base, adapter, libraries_bytes=libraries_bytes)
        if ram_bytes is not None and needed > ram_bytes:
            raise _too_little(f"only PEFT can merge this adapter ({why}): that", needed) from why
        return MergePlan(tensors=0, block_bytes=0, peak_bytes=needed, by_peft=str(why))
    fixed_bytes = libraries_bytes + (adapter / WEIGHTS).stat().st_size
    block_bytes = BLOCK_BYTES
    if ram_bytes is not None:
        block_bytes = min(block_bytes, (ram_bytes - fixed_bytes) // BLOCKS)
    if block_bytes < _SMALLEST_BLOCK_BYTES:
        raise _too_little("merging", fixed_bytes + BLOCKS * _SMALLEST_BLOCK_BYTES)
    return MergePlan(
        tensors=len(updates),
        block_bytes=block_bytes,
        peak_bytes=fixed_bytes + BLOCKS * block_bytes,
        unties=any(update.is_new for update in updates),
    )


def merge(base: Path, adapter: Path, output: Path, *, plan: MergePlan) -> None:
    """Write the merged checkpoint with tokenizer and configuration; the folder appears complete or not at all.

    Raises LplanError where it cannot be written, or PEFT cannot merge it.
    """
    with _complete_or_not(output) as aside:
        for pattern in _BESIDE:
            for file in base.glob(pattern):
                shutil.copyfile(file, aside / file.name)
        if plan.by_peft is not None:
            merge_by_peft(base, adapter, aside)
        else:
            _patch(base, adapter, aside, plan.block_bytes)


@contextmanager
def _complete_or_not(output: Path) -> Iterator[Path]:
    aside = output.with_name(f".{output.name}.part")
    shutil.rmtree(aside, ignore_errors=True)
    try:
        aside.mkdir(parents=True)
        yield aside
        aside.rename(output)
    except OSError as error:
        raise LplanError(
            f"cannot write {output}: {error.strerror}", hint="name another by --output"
        ) from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _updates(base: Path, adapter: Path) -> tuple[Update, ...]:
    return read_updates(adapter, places(base), skeleton(base))


def _patch(base: Path, adapter: Path, output: Path, block_bytes: int) -> None:
    for file in {place.file for place in places(base).values()}:
        shutil.copyfile(base / file, output / file)
    updates, new_file = _updates(base, adapter), head_file(base)
    with opened(adapter / WEIGHTS) as tensors:
        for update in updates:
            parts = {part: tensors.get_tensor(name).float() for part, name in update.parts.items()}
            name, start = update.source.file, update.source.start
            if update.is_new:
                header = header_of(update.name, update.source)
                name, start = new_file, len(header)
                (output / name).write_bytes(header)
            with (base / update.source.file).open("rb") as source, (output / name).open("r+b") as target:
                rewrite(update, parts, source, target, start, block_bytes)
    for update in updates:
        if update.is_new:
            untie(output, update.name, new_file)


def _too_little(what: str, needed: int) -> DoesNotFitError:
    size = format_size(math.ceil(needed / MIB) * MIB)
    return DoesNotFitError(f"{what} needs {size}, libraries included", hint=f"give it --ram {size}")
