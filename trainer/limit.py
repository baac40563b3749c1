"""Ways to hold a worker to its budget, the strictest first.

cgroup-v1, cgroup-v2   the kernel bounds the whole tree's memory and kills at the limit
rlimit                 RLIMIT_DATA bounds each process's private writable address space (Linux 4.7 and
                       later): an allocation beyond it fails, as MemoryError or torch's own message. It
                       counts mapped weights and untouched stacks too, so it is set above the budget by
                       those, and the parent watches the budget itself. (RLIMIT_AS would count every
                       library and reservation as well; RLIMIT_RSS does nothing.)
device                 PyTorch's caching allocator in the worker fails at the GPU's budget (trainer.device)
watch                  the parent kills the tree when a sample exceeds the budget, about 90 ms late
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeAlias

from ..planner.events import Sample
from ..profiles.cgroup import writable_memory_group
from ..profiles.units import GIB
from .cgroup_limit import ControlGroup, sweep

# Thread stacks, allocator arenas and BLAS buffers that are reserved and never touched: 81 MiB after the
# imports on 2 cores, and more with every core.
_UNTOUCHED_BYTES = GIB


class Limiter(Protocol):
    """Holds one run to `limit_bytes`, and remembers what it saw."""

    name: str
    limit_bytes: int

    def peak_bytes(self) -> int | None:
        """The most that it ever counted."""

    def oom_kills(self) -> int:
        """Processes of the run that the kernel killed for memory."""

    def exceeded(self, sample: Sample) -> bool:
        """Whether the parent has to end the run."""

    def limit_now_bytes(self) -> int | None:
        """The limit as it is now: somebody may have changed it. None if it cannot be changed from outside."""

    def members(self) -> set[int]:
        """Processes under the limit, as far as it knows them."""

    def close(self) -> None:
        """Undo it; what still runs under it ends."""


class Watch:
    """No kernel limit: samples beyond the budget end the run.

    As in a control group, file-backed pages don't count: the kernel drops them when memory runs short.
    """

    name = "watch"

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes

    def peak_bytes(self) -> int | None:
        return None

    def oom_kills(self) -> int:
        return 0

    def exceeded(self, sample: Sample) -> bool:
        return sample.anonymous_bytes + sample.swap_bytes > self.limit_bytes

    def limit_now_bytes(self) -> int | None:
        return None

    def members(self) -> set[int]:
        return set()

    def close(self) -> None:
        return


class ResourceLimit(Watch):
    """RLIMIT_DATA of the worker and of each process it starts; the sum over the tree is watched."""

    name = "rlimit"


class DeviceLimit(Watch):
    """The budget of a GPU: samples of the host say nothing about it."""

    name = "device"

    def exceeded(self, sample: Sample) -> bool:
        return False


Strategy: TypeAlias = Callable[[int, int, int], Limiter]
"""Takes the worker's process number, the budget and the mapped weights' bytes; OSError if it cannot."""


def by_control_group(pid: int, limit_bytes: int, mapped_bytes: int) -> Limiter:
    """A control group of the run's own, where this process may make one."""
    parent = writable_memory_group()
    if parent is None:
        raise OSError("no control group for memory is writable")
    sweep(parent)
    group = ControlGroup.create(parent, limit_bytes)
    try:
        group.add(pid)
    except OSError:
        group.close()
        raise
    return group


def by_resource_limit(pid: int, limit_bytes: int, mapped_bytes: int) -> Limiter:
    """RLIMIT_DATA, set on the worker before it starts."""
    if sys.platform != "linux":
        raise OSError("RLIMIT_DATA bounds nothing useful on this system")
    import resource

    allowed = limit_bytes + mapped_bytes + _UNTOUCHED_BYTES
    hard = resource.prlimit(pid, resource.RLIMIT_DATA)[1]
    if hard != resource.RLIM_INFINITY:
        allowed = min(allowed, hard)
    resource.prlimit(pid, resource.RLIMIT_DATA, (allowed, allowed))
    return ResourceLimit(limit_bytes)


def by_watching(pid: int, limit_bytes: int, mapped_bytes: int) -> Limiter:
    """The last resort; it always works."""
    return Watch(limit_bytes)


def by_device(pid: int, limit_bytes: int, mapped_bytes: int) -> Limiter:
    """A GPU's budget, which the worker's own allocator keeps; the host's memory is not bounded."""
    return DeviceLimit(limit_bytes)


@dataclass(frozen=True, kw_only=True, slots=True)
class Counted:
    """What a limiter has counted of a run, read before it is undone."""

    peak_bytes: int | None = None
    oom_kills: int = 0
    limit_bytes: int | None = None
    """The limit at the end."""


def count(limiter: Limiter) -> Counted:
    """Read it."""
    return Counted(
        peak_bytes=limiter.peak_bytes(), oom_kills=limiter.oom_kills(), limit_bytes=limiter.limit_now_bytes()
    )


def machine_oom_kills(root: Path = Path("/")) -> int:
    """Processes that this machine's kernel has killed for memory since it booted, in any control group."""
    try:
        counters = (root / "proc/vmstat").read_text()
    except OSError:
        return 0
    found = re.search(r"^oom_kill (\d+)$", counters, re.MULTILINE)
    return int(found[1]) if found else 0


STRATEGIES: tuple[Strategy, ...] = (by_control_group, by_resource_limit, by_watching)
ON_A_GPU: tuple[Strategy, ...] = (by_device,)


def impose(
    pid: int, limit_bytes: int, mapped_bytes: int = 0, strategies: Sequence[Strategy] = STRATEGIES
) -> tuple[Limiter, tuple[str, ...]]:
    """The first strategy that works, and why each one before it did not."""
    refusals: list[str] = []
    for strategy in strategies:
        limiter = _attempt(strategy, pid, limit_bytes, mapped_bytes)
        if not isinstance(limiter, OSError):
            return limiter, tuple(refusals)
        refusals.append(str(limiter))
    return Watch(limit_bytes), tuple(refusals)


def _attempt(strategy: Strategy, pid: int, limit_bytes: int, mapped_bytes: int) -> Limiter | OSError:
    try:
        return strategy(pid, limit_bytes, mapped_bytes)
    except OSError as error:
        return error
