"""The recorded step as pure data, and its exact extension to any number of layers.

A traced stack is first unit, repeated unit, last unit, remainder; a unit is `period` layers. Because units
repeat, the stream of n repeated units follows from the stream of one: what unit 1 does to its own storages,
to those of the unit before and of the unit after, every copy does to its own and its neighbours'.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .polynomial import Coefficients

FIRST, REPEATED, LAST = 0, 1, 2
OUTSIDE = -1
PINNED, PAGEABLE = "pinned host memory", "pageable host memory"
"""Components of storages that are not on the device."""
Instance = tuple[int, int]
"""A storage's index in the trace and the copy of the repeated unit it belongs to (0 elsewhere)."""
Entry = tuple[str, str, int, int, bool]
"""Phase, stage, a number for the instance, the storage's index, and whether it is born."""
Place = tuple[int, int, int]
"""Block, first or last copy, and event: what identifies an entry across extensions."""


@dataclass(frozen=True, slots=True)
class TracedStorage:
    """A storage's size as a polynomial, and its component."""

    size: Coefficients
    component: str

    @property
    def on_device(self) -> bool:
        """Whether it takes memory of the device that trains."""
        return self.component not in (PINNED, PAGEABLE)


@dataclass(frozen=True, slots=True)
class Block:
    """Consecutive events of one phase, stage and unit. Events: index + 1 for a birth, -(index + 1) for a death."""

    phase: str
    stage: str
    unit: int
    events: tuple[int, ...]


class NotPeriodicError(Exception):
    """The recorded stream does not repeat by unit: only a trace at full depth is exact."""


class Stream:
    """A traced step that extends to n repeated units."""

    def __init__(
        self, storages: Sequence[TracedStorage], blocks: Sequence[Block], products: Sequence[int] = ()
    ) -> None:
        self.storages = storages
        self.products = products
        """Results of the first matrix product of each thread, by index: a BLAS library's handle is made there."""
        self.blocks = blocks
        self._units: dict[int, int] = {}
        self._siblings: dict[tuple[int, int], int] = {}
        self._schedules: dict[int, list[Entry]] = {}
        self._index_births()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Stream) and self.to_dict() == other.to_dict()

    __hash__ = None  # type: ignore[assignment]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        sizes = list(dict.fromkeys(storage.size for storage in self.storages))
        place = {size: index for index, size in enumerate(sizes)}
        return {
            "sizes": [list(size) for size in sizes],
            "storages": [[place[storage.size], storage.component] for storage in self.storages],
            "blocks": [[block.phase, block.stage, block.unit, list(block.events)] for block in self.blocks],
            "products": list(self.products),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Stream:
        """The inverse of `to_dict`."""
        sizes = [tuple(size) for size in data["sizes"]]
        return cls(
            [TracedStorage(sizes[size], component) for size, component in data["storages"]],
            [Block(phase, stage, unit, tuple(events)) for phase, stage, unit, events in data["blocks"]],
            data["products"],
        )

    def schedule(self, copies: int) -> Sequence[Entry]:
        """The happenings with `copies` repeated units, for those who run over them often."""
        if copies not in self._schedules:
            self._schedules[copies] = [entry for entry, _ in self.happenings(copies)]
        return self._schedules[copies]

    def happenings(self, copies: int) -> Iterator[tuple[Entry, Place | None]]:
        """Every birth and death with `copies` repeated units, in order; the places of first and last copies."""
        alive: set[int] = set()
        for number, block, copy, end in self._visits(copies):
            phase, stage = block.phase, block.stage
            for position, event in enumerate(block.events):
                born = event > 0
                place = None if end is None else (number, end, position)
                for index, of in self._instances(event, block, copy, copies):
                    slot = index * copies + of
                    if born == (slot in alive):
                        continue
                    (alive.add if born else alive.discard)(slot)
                    yield (phase, stage, slot, index, born), place

    def _visits(self, copies: int) -> Iterator[tuple[int, Block, int, int | None]]:
        """Blocks by number, each with the copy of its unit, backwards where layers are; first and last copies are
        told by 0 and 1."""
        unit_before = OUTSIDE
        for number, block in enumerate(self.blocks):
            order = range(copies) if block.unit == REPEATED else range(1)
            if unit_before == LAST:
                order = order[::-1]
            if block.unit != OUTSIDE:
                unit_before = block.unit
            for position, copy in enumerate(order):
                yield number, block, copy, 0 if position == 0 else 1 if position == len(order) - 1 else None

    def _instances(self, event: int, block: Block, copy: int, copies: int) -> Sequence[Instance]:
        if event > 0:
            return ((event - 1, copy),)
        index = -event - 1
        if self._units[index] == block.unit == REPEATED:
            return ((index, copy),)
        return self._that_die(index, block, copy, copies)

    def _that_die(self, index: int, block: Block, copy: int, copies: int) -> Sequence[Instance]:
        unit = self._units[index]
        if block.unit == REPEATED:
            return (self._seen_from_copy(index, unit, copy, copies),)
        if unit != REPEATED:
            return ((index, 0),)
        if block.unit == OUTSIDE or block.stage == "optimizer":
            return [(index, c) for c in range(copies)]
        return ((index, 0 if block.unit == FIRST else copies - 1),)

    def _seen_from_copy(self, index: int, unit: int, copy: int, copies: int) -> Instance:
        if unit in (REPEATED, OUTSIDE):
            return (index, copy if unit == REPEATED else 0)
        neighbour = copy - 1 if unit == FIRST else copy + 1
        if not 0 <= neighbour < copies:
            return (index, 0)
        sibling = self._siblings.get((unit, index))
        if sibling is None:
            raise NotPeriodicError(f"storage {index} of unit {unit} has no counterpart in the repeated unit")
        return (sibling, neighbour)

    def _index_births(self) -> None:
        births: dict[tuple[str, str, int], list[list[int]]] = {}
        for block in self.blocks:
            born = [event - 1 for event in block.events if event > 0]
            self._units.update(dict.fromkeys(born, block.unit))
            births.setdefault((block.phase, block.stage, block.unit), []).append(born)
        for (phase, stage, unit), groups in births.items():
            if unit in (FIRST, LAST):
                for mine, repeated in zip(groups, births.get((phase, stage, REPEATED), []), strict=False):
                    self._pair(unit, mine, repeated)

    def _pair(self, unit: int, mine: Sequence[int], repeated: Sequence[int]) -> None:
        if len(mine) != len(repeated):
            return
        for index, sibling in zip(mine, repeated, strict=True):
            if self.storages[index].size == self.storages[sibling].size:
                self._siblings[(unit, index)] = sibling


def check_extends(stream: Stream) -> None:
    """Raise NotPeriodicError unless two and three copies leave the same storages alive as one does, per copy."""
    left = [_left_alive(stream, copies) for copies in (1, 2, 3)]
    for size in set().union(*left):
        one, two, three = (counts.get(size, 0) for counts in left)
        if two - one != three - two:
            raise NotPeriodicError(f"{three - two - (two - one)} storages of {size} are left over")
    if sum(left[1].values()) - sum(left[0].values()) != _persisting(stream):
        raise NotPeriodicError("a repeated unit leaves storages behind")


def _left_alive(stream: Stream, copies: int) -> dict[Coefficients, int]:
    counts: dict[Coefficients, int] = {}
    for _, _, _, index, born in stream.schedule(copies):
        size = stream.storages[index].size
        counts[size] = counts.get(size, 0) + (1 if born else -1)
    return counts


def _persisting(stream: Stream) -> int:
    """Storages of the repeated unit that the traced step never frees: weights, adapters, optimizer states."""
    born: set[int] = set()
    for block in stream.blocks:
        for event in block.events:
            if event > 0 and block.unit == REPEATED:
                born.add(event - 1)
            elif event < 0:
                born.discard(-event - 1)
    return len(born)
