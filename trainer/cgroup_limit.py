"""A control group of its own for one run: the kernel's limit on everything the worker's tree holds.

Both versions count page cache and page tables too. Cache is dropped before anything is killed, mapped
weights included (they are read again when touched), so what kills is anonymous memory. Sources:
Documentation/admin-guide/cgroup-v1/memory.rst and cgroup-v2.rst of Linux.
"""

from __future__ import annotations

import itertools
import os
import re
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ..planner.events import Sample
from ..profiles.cgroup import ROOT, ParentGroup, Version, memory_groups
from .process_tree import kill_until_gone, start_of

_NAME = re.compile(r"lplan-(?P<pid>\d+)-(?P<start>\d+)\.\d+")
_REMOVE_TIMEOUT_S = 2.0
_counter = itertools.count(1)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Files:
    """A version's file names. `limit` must be settable; `extras` are set where they exist."""

    limit: str
    extras: Mapping[str, int | None]
    """None stands for the limit itself."""
    usage: str
    peak: str
    events: str
    hits: tuple[str, str]
    """The file and the pattern of how often usage came to the limit."""


_FILES: Mapping[Version, _Files] = {
    1: _Files(
        limit="memory.limit_in_bytes",
        # memsw (memory plus swap) exists only where the kernel accounts for swap.
        extras={"memory.memsw.limit_in_bytes": None, "memory.swappiness": 0},
        usage="memory.usage_in_bytes",
        peak="memory.max_usage_in_bytes",
        events="memory.oom_control",
        hits=("memory.failcnt", r"^(\d+)$"),
    ),
    2: _Files(
        limit="memory.max",
        extras={"memory.swap.max": 0, "memory.oom.group": 1},
        usage="memory.current",
        peak="memory.peak",
        events="memory.events",
        hits=("memory.events", r"^max (\d+)$"),
    ),
}


class ControlGroup:
    """A group made for one run, without swap; the kernel kills in it when `limit_bytes` are not enough."""

    def __init__(self, version: Version, path: Path, limit_bytes: int) -> None:
        self.name = f"cgroup-v{version}"
        self.path = path
        self.limit_bytes = limit_bytes
        self._files = _FILES[version]

    @classmethod
    def create(cls, parent: ParentGroup, limit_bytes: int) -> ControlGroup:
        """A new group below `parent`, named after this process. Raises OSError and leaves nothing behind."""
        pid = os.getpid()
        path = parent.path / f"lplan-{pid}-{start_of(pid) or 0}.{next(_counter)}"
        path.mkdir()
        group = cls(parent.version, path, limit_bytes)
        try:
            group._set_limits()
        except OSError:
            path.rmdir()
            raise
        return group

    def add(self, pid: int) -> None:
        """Move a process in. What it held before stays charged to where it was. Raises OSError."""
        (self.path / "cgroup.procs").write_text(str(pid))

    def usage_bytes(self) -> int | None:
        """Charged now, page cache included."""
        return _number(self.path / self._files.usage)

    def peak_bytes(self) -> int | None:
        """The most ever charged; None before Linux 5.19 in version 2."""
        return _number(self.path / self._files.peak)

    def oom_kills(self) -> int:
        """Processes of this group that the kernel killed for memory, its own limit's or an outer one's."""
        return _count(self.path / self._files.events, r"^oom_kill (\d+)$") or 0

    def limit_now_bytes(self) -> int | None:
        """The limit as it is set now; an administrator may have lowered it."""
        return _number(self.path / self._files.limit)

    def limit_hits(self) -> int | None:
        """How often usage came to the limit: the kernel then drops cache, or kills. None if it does not tell."""
        name, pattern = self._files.hits
        return _count(self.path / name, pattern)

    def exceeded(self, sample: Sample) -> bool:
        """Whether the kernel has killed here: what is left of the run is then ended too.

        Version 2 does so itself (memory.oom.group); in version 1 a worker could wait forever for a helper.
        """
        return self.oom_kills() > 0

    def members(self) -> set[int]:
        """Process numbers in the group; 0 for those of a foreign process namespace."""
        try:
            return {int(line) for line in (self.path / "cgroup.procs").read_text().split()}
        except OSError:
            return set()

    def close(self) -> None:
        """End what still runs in the group and remove it."""
        _remove(self)

    def _set_limits(self) -> None:
        (self.path / self._files.limit).write_text(str(self.limit_bytes))
        for name, value in self._files.extras.items():
            if (self.path / name).exists():
                (self.path / name).write_text(str(self.limit_bytes if value is None else value))


def leave_orphaned(root: Path = ROOT) -> None:
    """Take this process out of its group and remove that, if the run that made it is gone.

    Version 2 lets no process into the group above, which has limited children: there the next run sweeps.
    """
    for group in memory_groups(root)[:1]:
        if _is_orphaned(group.path):
            with suppress(OSError):
                (group.path.parent / "cgroup.procs").write_text(str(os.getpid()))
                group.path.rmdir()


def sweep(parent: ParentGroup) -> None:
    """Remove groups whose run was killed before it could; its worker, if it lingers, goes with it."""
    for path in parent.path.glob("lplan-*"):
        if _is_orphaned(path):
            _remove(ControlGroup(parent.version, path, 0))


def _is_orphaned(path: Path) -> bool:
    name = _NAME.fullmatch(path.name)
    return name is not None and start_of(int(name["pid"])) != int(name["start"])


def _remove(group: ControlGroup) -> None:
    if 0 in group.members():  # another container's run: not ours to judge
        return
    kill_until_gone(group.members)
    deadline_s = time.monotonic() + _REMOVE_TIMEOUT_S
    while group.path.exists() and time.monotonic() < deadline_s:
        with suppress(OSError):
            group.path.rmdir()
            return
        time.sleep(0.02)  # the kernel has not finished with its last process


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def _count(path: Path, pattern: str) -> int | None:
    try:
        found = re.search(pattern, path.read_text(), re.MULTILINE)
    except OSError:
        return None
    return int(found[1]) if found else None
