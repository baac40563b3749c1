"""What a GPU run keeps in host memory: tensors that were offloaded, walked through the same stream of births."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from .estimate import HostBytes
from .footprint import Footprint
from .gathering import Gathering
from .polynomial import Shape, evaluate
from .stream import PAGEABLE, PINNED

NOTHING = HostBytes(pinned_bytes=0, pageable_bytes=0)


def with_arrays(hosts: Mapping[str, HostBytes], kept: Gathering | None) -> dict[str, HostBytes]:
    """By phase, with what an evaluation moves there until its end."""
    found = dict(hosts)
    if kept is not None:
        before = hosts.get("evaluation", NOTHING)
        arrays = kept.as_arrays(shared=False)
        found["evaluation"] = replace(before, pageable_bytes=before.pageable_bytes + arrays)
        found["save"] = before
    return found


def host_peaks(footprint: Footprint, shape: Shape) -> dict[str, HostBytes]:
    """By phase: pinned memory, which PyTorch takes in powers of two and never gives back
    (ATen/core/CachingHostAllocator.h), and the most pageable memory that is alive."""
    assert footprint.stream is not None
    values = shape.values()
    storages = footprint.stream.storages
    sizes = [evaluate(s.size, values) if s.component in (PINNED, PAGEABLE) else 0 for s in storages]
    free: dict[int, int] = {}
    pinned = pageable = 0
    found: dict[str, HostBytes] = {}
    for phase, _, _, index, born in footprint.stream.schedule(footprint.extra_units + 1):
        size = sizes[index]
        if size and storages[index].component == PAGEABLE:
            pageable += size if born else -size
        elif size:
            block = 1 << (size - 1).bit_length()
            if born and not free.get(block):
                pinned += block
            else:
                free[block] = free.get(block, 0) + (-1 if born else 1)
        before = found.get(phase, NOTHING)
        if phase not in found or pinned > before.pinned_bytes or pageable > before.pageable_bytes:
            highest = max(pageable, before.pageable_bytes)
            found[phase] = HostBytes(pinned_bytes=pinned, pageable_bytes=highest)
    return found
