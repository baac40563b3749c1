"""The instants of a stream that can be a phase's peak, for some shape and depth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..footprint import Instant, Linear
from ..polynomial import MONOMIALS, ZERO
from ..stream import Place, Stream

_Bytes = NDArray[np.int64]
"""Coefficients of MONOMIALS in the last dimension."""


@dataclass(frozen=True, slots=True)
class _Births:
    """Every birth that other depths have too, and what is alive at it: births x components x monomials."""

    phases: Sequence[str]
    places: Sequence[Place]
    live: _Bytes


def peaks(stream: Stream, *, extends: bool) -> dict[str, tuple[Instant, ...]]:
    """The instants of each phase that are the peak for some shape and depth: the others are dominated."""
    components = list(dict.fromkeys(s.component for s in stream.storages if s.on_device))
    found = _births(stream, components, 2 if extends else 1)
    base, per_unit = found.live, np.zeros_like(found.live)
    if extends:
        deeper = _births(stream, components, 3)
        rows = {place: row for row, place in enumerate(deeper.places)}
        per_unit = deeper.live[[rows[place] for place in found.places]] - found.live
        base = found.live - per_unit
    keys = np.concatenate([base.sum(axis=1), per_unit.sum(axis=1)], axis=1)
    phases = np.array(found.phases)
    instants: dict[str, tuple[Instant, ...]] = {}
    for phase in dict.fromkeys(found.phases):
        (here,) = np.nonzero(phases == phase)
        instants[phase] = tuple(
            _instant(components, base[row], per_unit[row]) for row in here[_maximal(keys[here])]
        )
    return instants


def _births(stream: Stream, components: Sequence[str], copies: int) -> _Births:
    number = {name: place for place, name in enumerate(components)}
    sizes = np.array([storage.size for storage in stream.storages], dtype=np.int64)
    owners = np.array([number.get(storage.component, -1) for storage in stream.storages])
    owned = owners.tolist()
    happenings = [(entry, place) for entry, place in stream.happenings(copies) if owned[entry[3]] >= 0]
    indices = np.array([index for (_, _, _, index, _), _ in happenings], dtype=np.int64)
    signs = np.array([1 if born else -1 for (*_, born), _ in happenings], dtype=np.int64)
    live = np.zeros((len(happenings), len(components), len(MONOMIALS)), dtype=np.int64)
    live[np.arange(len(happenings)), owners[indices]] = signs[:, None] * sizes[indices]
    np.cumsum(live, axis=0, out=live)
    births = [
        (row, phase, place)
        for row, ((phase, *_, born), place) in enumerate(happenings)
        if born and place is not None
    ]
    return _Births(
        [phase for _, phase, _ in births], [place for *_, place in births], live[[row for row, *_ in births]]
    )


def _maximal(keys: _Bytes) -> list[int]:
    """Rows that no other row is at least as large as in every column, the first of equal ones, in order.

    By falling sums, so that whatever exceeds a row comes before it.
    """
    unique, first = np.unique(keys, axis=0, return_index=True)
    kept: list[int] = []
    for row in np.argsort(-unique.sum(axis=1), kind="stable"):
        if not (unique[kept] >= unique[row]).all(axis=1).any():
            kept.append(int(row))
    return sorted(int(first[row]) for row in kept)


def _instant(components: Sequence[str], base: _Bytes, per_unit: _Bytes) -> Instant:
    parts = {
        name: Linear(tuple(base[place].tolist()), tuple(per_unit[place].tolist()))
        for place, name in enumerate(components)
    }
    return Instant({name: part for name, part in parts.items() if part != Linear(ZERO)})
