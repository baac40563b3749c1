"""A tensor of the base, read, changed and written in blocks of rows.

A merged weight is W + scaling * B @ A in fp32, rounded once to the base's dtype; with DoRA the norms of its outputs are
then brought to the learned magnitudes (Liu et al. 2024).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO

import torch
from torch import Tensor

from .updates import Update


def rewrite(
    update: Update,
    parts: Mapping[str, Tensor],
    source: BinaryIO,
    target: BinaryIO,
    start: int,
    block_bytes: int,
) -> None:
    """Write the changed tensor of `source` into `target`, from byte `start` on. `parts` are in fp32."""
    dtype = getattr(torch, update.source.dtype)
    row_bytes = math.prod(update.source.shape[1:]) * dtype.itemsize
    factors = _magnitudes(update, parts, source, block_bytes)
    target.seek(start)
    for rows in _blocks(update, block_bytes):
        weight = _changed(_read(update, source, rows), update, parts, rows)
        if factors is not None:
            weight *= factors if update.transposed else factors[rows].unsqueeze(1)
        _write(target, weight.to(dtype))
    assert target.tell() == start + update.source.shape[0] * row_bytes


def _changed(weight: Tensor, update: Update, parts: Mapping[str, Tensor], rows: slice) -> Tensor:
    if "whole" in parts:
        weight = parts["whole"][rows].clone()
    if "add" in parts:
        weight += update.scaling * parts["add"][rows]
    if "A" in parts:
        a, b = parts["A"], parts["B"]
        left, right = (a.T[rows], b.T) if update.transposed else (b[rows], a)
        weight.addmm_(left, right, alpha=update.scaling)
    for place, row in enumerate(update.rows):
        if rows.start <= row < rows.stop:
            weight[row - rows.start] = parts["rows"][place]
    return weight


def _magnitudes(
    update: Update, parts: Mapping[str, Tensor], source: BinaryIO, block_bytes: int
) -> Tensor | None:
    """DoRA's factor of every output, which takes a reading of the whole weight beforehand."""
    if "magnitude" not in parts:
        return None
    squares = torch.zeros(parts["magnitude"].numel())
    for rows in _blocks(update, block_bytes):
        weight = _changed(_read(update, source, rows), update, parts, rows)
        if update.transposed:
            squares += weight.square_().sum(0)
        else:
            squares[rows] = weight.square_().sum(1)
    return parts["magnitude"].flatten() / squares.sqrt_()


def _blocks(update: Update, block_bytes: int) -> Iterator[slice]:
    rows, width = update.source.shape[0], math.prod(update.source.shape[1:])
    step = max(1, block_bytes // (4 * width or 1))
    return (slice(start, min(rows, start + step)) for start in range(0, rows, step))


def _read(update: Update, source: BinaryIO, rows: slice) -> Tensor:
    dtype, shape = getattr(torch, update.source.dtype), update.source.shape
    row_bytes = math.prod(shape[1:]) * dtype.itemsize
    source.seek(update.source.start + rows.start * row_bytes)
    raw = bytearray(source.read((rows.stop - rows.start) * row_bytes))
    return torch.frombuffer(raw, dtype=dtype).view(rows.stop - rows.start, *shape[1:]).float()


def _write(target: BinaryIO, block: Tensor) -> None:
    numbers: Any = block.contiguous().view(torch.uint8).numpy()
    target.write(memoryview(numbers).cast("B"))
