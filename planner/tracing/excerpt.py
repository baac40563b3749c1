"""Parts of a recording that are recordings themselves: a step of one micro batch, from one of two."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ..estimate import STEPS
from .tracker import Segment

_OF_A_MICRO_BATCH = ("batch", "forward", "head", "backward", "after backward")


@dataclass(frozen=True, slots=True)
class Excerpt:
    """Segments with the storages that are born in them, numbered anew; `kept` are their numbers before."""

    segments: tuple[Segment, ...]
    kept: tuple[int, ...]


def single(segments: Sequence[Segment]) -> Excerpt | None:
    """With the first micro batch of every optimizer step alone.

    None where that is no step of its own: where another micro batch ends the life of what it did not begin, or the
    other way round. Nothing of the first is different beside a second: gradients are born in it, or they are not.
    """
    return _excerpt(segments, [number == 1 for number in _micro_batches(segments)])


def brief(segments: Sequence[Segment]) -> Excerpt | None:
    """With one micro batch in the first optimizer step, and without the second step, which repeats it."""
    again = STEPS[1]
    numbers = zip(segments, _micro_batches(segments), strict=True)
    return _excerpt(segments, [number == 1 and segment.phase != again for segment, number in numbers])


def _micro_batches(segments: Sequence[Segment]) -> Iterator[int]:
    """The number of each segment's micro batch in its optimizer step; 1 for what is part of none."""
    number, phase = 1, None
    for segment in segments:
        if segment.phase != phase:
            number, phase = 0, segment.phase
        number += segment.stage == "batch"
        yield number if segment.stage in _OF_A_MICRO_BATCH and phase in STEPS else 1


def _excerpt(segments: Sequence[Segment], kept: Sequence[bool]) -> Excerpt | None:
    numbers: dict[int, int] = {}
    found: list[Segment] = []
    for segment, keeps in zip(segments, kept, strict=True):
        if not keeps:
            continue
        events: list[int] = []
        for event in segment.events:
            if event > 0:
                numbers[event - 1] = len(numbers)
            elif -event - 1 not in numbers:
                return None
            events.append(_numbered(event, numbers))
        found.append(Segment(segment.phase, segment.stage, segment.layer, events, segment.work))
    left_out = (segment for segment, keeps in zip(segments, kept, strict=True) if not keeps)
    if any(-event - 1 in numbers for segment in left_out for event in segment.events if event < 0):
        return None
    return Excerpt(tuple(found), tuple(numbers))


def _numbered(event: int, numbers: dict[int, int]) -> int:
    return numbers[event - 1] + 1 if event > 0 else -numbers[-event - 1] - 1
