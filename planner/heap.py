"""What glibc's default allocator holds beyond live tensors (malloc/malloc.c of glibc 2.36, mallopt(3)).

A block of up to 32 MiB lies in the heap once one as large has been freed, and the heap only shrinks at its end. What
is freed inside stays resident; small objects between freed tensors keep it in pieces, and `posix_memalign` wants a
piece 96 bytes larger than the one that a tensor of the same size has left. So the heap grows to a multiple of what
ever lived in it, the more so the more tensors a step makes. How much more depends on the addresses of objects that
no trace sees: heap.toml, fitted by benchmarks/fit_heap.py. Larger blocks are mappings of their own, which go back
when they are freed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from itertools import accumulate, groupby
from math import log2
from operator import itemgetter

from .constants import constants
from .estimate import STEPS
from .footprint import Footprint
from .polynomial import Shape, evaluate
from .residuals import Residuals

LARGEST_BLOCK_BYTES = 32 * 2**20
"""DEFAULT_MMAP_THRESHOLD_MAX of a 64-bit glibc: the threshold never grows beyond."""
_SMALL_BYTES = 64 * 2**10
"""FASTBIN_CONSOLIDATION_THRESHOLD: freeing less changes little."""
_USUAL_BIRTHS = 1024
"""Of a step whose order is not known."""
_STAY = ("adapters", "optimizer")
"""Never freed, so that they leave no holes. Weights aren't either, and how they lie in memory is the phase's to say."""


@dataclass(frozen=True, slots=True)
class HeapUse:
    """Tensors up to the end of a phase, but for the weights: the most that ever lived in the heap, and the most that
    lived beside it in the phase. The two need not coincide."""

    heap_bytes: int
    beside_bytes: int
    births: int
    """Tensors that came into the heap in the phase, without those too small to matter."""
    largest_bytes: int = 0
    """The largest of them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Fragmentation:
    """What the heap holds beyond the most that ever lived in it, as a share of that, for each doubling of the number
    of tensors that come into it in a step: in the two steps, and when they are over."""

    first_step: float
    steady_step: float
    after: float
    chunks: float
    """In a steady step with a chunked loss: so many blocks of a chunk's logits more."""

    def size_bytes(self, phase: str, use: HeapUse, *, chunked: bool) -> int:
        """The heap's size at the peak of a phase, by its tensors, or by those of the steps before."""
        share = {STEPS[0]: self.first_step, STEPS[1]: self.steady_step}.get(phase, self.after)
        more = self.chunks * use.largest_bytes if chunked and phase == STEPS[1] else 0.0
        return int(use.heap_bytes * (1 + share * doublings(use)) + more)


def doublings(use: HeapUse) -> float:
    """Of the number of tensors that come into the heap."""
    return log2(max(2, use.births))


def heap_use(footprint: Footprint, shape: Shape) -> dict[str, HeapUse]:
    """By traced phase."""
    if footprint.stream is None:
        return {phase: _without_order(footprint, shape, phase) for phase in footprint.phases}
    values, storages = shape.values(), footprint.stream.storages
    sizes = [0 if s.component == "weights" else evaluate(s.size, values) for s in storages]
    in_heap = [
        size <= LARGEST_BLOCK_BYTES and storage.component not in _STAY
        for size, storage in zip(sizes, storages, strict=True)
    ]
    inside = [size if placed else 0 for size, placed in zip(sizes, in_heap, strict=True)]
    outside = [size - within for size, within in zip(sizes, inside, strict=True)]
    found: dict[str, HeapUse] = {}
    heap = beside = most = 0
    for phase, entries in groupby(footprint.stream.schedule(footprint.extra_units + 1), key=itemgetter(0)):
        part = [(index, born) for _, _, _, index, born in entries]
        heaps = list(accumulate((inside[n] if born else -inside[n] for n, born in part), initial=heap))
        besides = list(accumulate((outside[n] if born else -outside[n] for n, born in part), initial=beside))
        births = [inside[n] for n, born in part if born and inside[n] >= _SMALL_BYTES]
        most, heap, beside = max(most, max(heaps)), heaps[-1], besides[-1]
        found[phase] = HeapUse(most, max(besides[1:]), len(births), max(births, default=0))
    return found


def _without_order(footprint: Footprint, shape: Shape, phase: str) -> HeapUse:
    """A footprint without its stream tells no block's size: all that comes and goes counts as heap."""
    live = footprint.peak(phase, shape)
    beside = sum(live.get(part, 0) for part in _STAY)
    return HeapUse(sum(live.values()) - live.get("weights", 0) - beside, beside, _USUAL_BIRTHS)


@dataclass(frozen=True, kw_only=True, slots=True)
class Slack:
    """What is resident beyond the live tensors at a phase's peak, and how much less or more that may be, in bytes."""

    expected_bytes: int = 0
    less_bytes: int = 0
    more_bytes: int = 0


def slack(use: Mapping[str, HeapUse], phase: str, live: Mapping[str, int], *, chunked: bool = False) -> Slack:
    """That of a phase from the first step on, with these tensors `live` at its peak."""
    tensors = sum(live.values()) - live.get("weights", 0)
    here = use.get(phase, HeapUse(0, tensors, 0))  # nothing comes or goes while saving
    step = use[phase if phase in STEPS else STEPS[-1]]
    size = fragmentation().size_bytes(phase, step, chunked=chunked)
    expected = max(0, here.beside_bytes + size - tensors)
    stays = sum(live.get(part, 0) for part in _STAY)
    doubtful = int(doubt().spread().above * (size + max(0, step.beside_bytes - stays)))
    if phase in STEPS:
        return Slack(expected_bytes=expected, less_bytes=doubtful, more_bytes=doubtful)
    # Afterwards the heap may have shrunk at its end, or be as large as the steps have left it.
    left = fragmentation().size_bytes(STEPS[-1], step, chunked=chunked)
    return Slack(expected_bytes=expected, less_bytes=expected, more_bytes=max(0, left - size) + doubtful)


def fragmentation() -> Fragmentation:
    """As fitted."""
    return Fragmentation(**constants("heap")["fragmentation"])


@cache
def doubt() -> Residuals:
    """How far the steps of left-out runs lay from their estimates, as shares of the heap and what passes beside it."""
    return Residuals(worst=tuple(constants("heap")["doubt"]["worst"]), doubt_bytes=0)
