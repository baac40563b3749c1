"""Control groups of a process: what their memory and CPU controllers allow, version 1 and 2.

File names and semantics: Linux Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/memory.rst; the
format of mountinfo: proc(5). Every function takes `root`, the folder that stands for `/`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

Version = Literal[1, 2]
ROOT = Path("/")

# Version 1 says "no limit" as the largest page count that fits a long, in bytes: 2**63 less one page.
_V1_UNLIMITED = 2**62
# Shared memory is on the anonymous lists, so these three can be dropped without swapping.
_V1_RECLAIMABLE = ("total_inactive_file", "total_active_file")
_V2_RECLAIMABLE = ("inactive_file", "active_file", "slab_reclaimable")


@dataclass(frozen=True, kw_only=True, slots=True)
class MemoryGroup:
    """One level of a process's ancestry in the memory controller.

    `limit_bytes` kills, `high_bytes` (version 2's memory.high) throttles; None is no limit. `usage_bytes`
    counts every process below, page cache included; `reclaimable_bytes` of it are droppable cache.
    """

    version: Version
    path: Path
    limit_bytes: int | None
    limit_source: str
    high_bytes: int | None
    usage_bytes: int
    reclaimable_bytes: int

    @property
    def held_bytes(self) -> int:
        """Memory in use that the kernel cannot simply drop."""
        return max(0, self.usage_bytes - self.reclaimable_bytes)


@dataclass(frozen=True, kw_only=True, slots=True)
class ParentGroup:
    """A group in which this process may create a child with a memory limit of its own."""

    version: Version
    path: Path


@dataclass(frozen=True, slots=True)
class _Mount:
    """A mounted hierarchy: `top` is the group that `folder` shows."""

    top: PurePosixPath
    folder: Path


def memory_groups(root: Path = ROOT, pid: int | str = "self") -> tuple[MemoryGroup, ...]:
    """The process's memory groups, innermost first, as far up as this process can see.

    Empty without control groups (macOS, Windows, a kernel without the controller).
    """
    return (*_memory_groups_v1(root, pid), *_memory_groups_v2(root, pid))


def cpu_quota(root: Path = ROOT, pid: int | str = "self") -> float | None:
    """CPUs' worth of time that the tightest group of the ancestry allows; None without a quota."""
    quotas = [_quota_v1(folder) for folder in _folders(root, pid, 1, "cpu")]
    quotas += [_quota_v2(folder) for folder in _folders(root, pid, 2, "cpu")]
    return min((quota for quota in quotas if quota is not None), default=None)


def writable_memory_group(root: Path = ROOT, pid: int | str = "self") -> ParentGroup | None:
    """The nearest group under which a limited child can be made and this process moved, or None.

    Version 1: the own group, if writable. Version 2 lets a group with processes have no limited children, so
    it is the nearest ancestor that passes the memory controller on (usually the parent: the child becomes a
    sibling, under the same limits from above).
    """
    for folder in _folders(root, pid, 1, "memory"):
        if (folder / "memory.limit_in_bytes").exists():
            return ParentGroup(version=1, path=folder) if _writable(folder) else None
    for folder in _folders(root, pid, 2, "memory"):
        if "memory" in (_read(folder / "cgroup.subtree_control") or "").split() and _writable(folder):
            return ParentGroup(version=2, path=folder)
    return None


def _memory_groups_v1(root: Path, pid: int | str) -> Iterator[MemoryGroup]:
    tightest, inner = _V1_UNLIMITED, None
    for folder in _folders(root, pid, 1, "memory"):
        if inner is not None and _read(folder / "memory.use_hierarchy") == "0":
            break
        group = _memory_group_v1(folder, root)
        if group is None:
            continue
        inner = inner or group
        tightest = min(tightest, tightest if group.limit_bytes is None else group.limit_bytes)
        yield group
    if inner is not None:
        yield from _hidden_ancestor(inner, tightest, root)


def _memory_group_v1(folder: Path, root: Path) -> MemoryGroup | None:
    limit_bytes = _number(folder / "memory.limit_in_bytes")
    if limit_bytes is None:
        return None
    return MemoryGroup(
        version=1,
        path=folder,
        limit_bytes=limit_bytes if limit_bytes < _V1_UNLIMITED else None,
        limit_source=_shown(folder / "memory.limit_in_bytes", root),
        high_bytes=None,
        usage_bytes=_number(folder / "memory.usage_in_bytes") or 0,
        reclaimable_bytes=_sum_of_stat(folder, _V1_RECLAIMABLE),
    )


def _hidden_ancestor(inner: MemoryGroup, tightest: int, root: Path) -> Iterator[MemoryGroup]:
    """The limit of a version 1 ancestor above the mount (a pod's, seen from its container)."""
    limit_bytes = _stat(inner.path).get("hierarchical_memory_limit", _V1_UNLIMITED)
    if limit_bytes < tightest:
        yield MemoryGroup(
            version=1,
            path=inner.path,
            limit_bytes=limit_bytes,
            limit_source=_shown(inner.path / "memory.stat", root) + " hierarchical_memory_limit",
            high_bytes=None,
            usage_bytes=inner.usage_bytes,
            reclaimable_bytes=inner.reclaimable_bytes,
        )


def _memory_groups_v2(root: Path, pid: int | str) -> Iterator[MemoryGroup]:
    for folder in _folders(root, pid, 2, "memory"):
        # The hierarchy's own root, and a hybrid system's version 2, have no such file.
        if not (folder / "memory.max").exists():
            continue
        yield MemoryGroup(
            version=2,
            path=folder,
            limit_bytes=_number(folder / "memory.max"),
            limit_source=_shown(folder / "memory.max", root),
            high_bytes=_number(folder / "memory.high"),
            usage_bytes=_number(folder / "memory.current") or 0,
            reclaimable_bytes=_sum_of_stat(folder, _V2_RECLAIMABLE),
        )


def _quota_v1(folder: Path) -> float | None:
    quota, period = _number(folder / "cpu.cfs_quota_us"), _number(folder / "cpu.cfs_period_us")
    return quota / period if quota is not None and quota > 0 and period else None


def _quota_v2(folder: Path) -> float | None:
    fields = (_read(folder / "cpu.max") or "").split()
    if len(fields) != 2 or not all(field.isdigit() for field in fields) or int(fields[1]) == 0:
        return None
    return int(fields[0]) / int(fields[1])


def _folders(root: Path, pid: int | str, version: Version, controller: str) -> tuple[Path, ...]:
    """Existing folders of the process's group and its ancestors up to the mount, innermost first."""
    group = _group_of(root, pid, version, controller)
    if group is None:
        return ()
    mounts = _mounts(root, pid, version, controller)
    mount = min(
        (mount for mount in mounts if _below(group, mount.top) is not None),
        key=lambda mount: len(mount.top.parts),
        default=mounts[0] if mounts else None,
    )
    if mount is None:
        return ()
    # A group outside what is mounted ("/../x" in a namespace) is judged by the mount's own top.
    inner = mount.folder / (_below(group, mount.top) or "")
    ancestry = (inner, *inner.parents)
    return tuple(f for f in ancestry[: ancestry.index(mount.folder) + 1] if f.is_dir())


def _below(group: PurePosixPath, top: PurePosixPath) -> PurePosixPath | None:
    """`group` relative to the group that a mount shows, or None if it is not below it."""
    if not group.is_relative_to(top):
        return None
    relative = group.relative_to(top)
    return None if ".." in relative.parts else relative


def _group_of(root: Path, pid: int | str, version: Version, controller: str) -> PurePosixPath | None:
    """The process's group in the hierarchy that holds the controller (proc/PID/cgroup)."""
    for line in (_read(root / "proc" / str(pid) / "cgroup") or "").splitlines():
        hierarchy, _, rest = line.partition(":")
        controllers, _, group = rest.partition(":")
        if (hierarchy == "0") if version == 2 else (controller in controllers.split(",")):
            return PurePosixPath(group)
    return None


def _mounts(root: Path, pid: int | str, version: Version, controller: str) -> list[_Mount]:
    """Where the hierarchy that holds the controller is mounted (proc/PID/mountinfo)."""
    found = []
    for line in (_read(root / "proc" / str(pid) / "mountinfo") or "").splitlines():
        left, _, right = line.partition(" - ")
        fields, filesystem = left.split(), right.split()
        if len(fields) < 5 or len(filesystem) < 3:
            continue
        kind, options = filesystem[0], filesystem[2].split(",")
        if kind == "cgroup2" if version == 2 else (kind == "cgroup" and controller in options):
            found.append(_Mount(PurePosixPath(_unescape(fields[3])), root / _unescape(fields[4]).lstrip("/")))
    return found


def _unescape(field: str) -> str:
    """mountinfo writes blanks and backslashes as three octal digits."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), field)


def _shown(path: Path, root: Path) -> str:
    return "/" + path.relative_to(root).as_posix()


def _writable(folder: Path) -> bool:
    """Whether a child can be made here and processes moved into it (a read-only mount says no)."""
    return os.access(folder, os.W_OK | os.X_OK) and os.access(folder / "cgroup.procs", os.W_OK)


def _sum_of_stat(folder: Path, keys: tuple[str, ...]) -> int:
    stat = _stat(folder)
    return sum(stat.get(key, 0) for key in keys)


def _stat(folder: Path) -> dict[str, int]:
    pairs = (line.split() for line in (_read(folder / "memory.stat") or "").splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdigit()}


def _number(path: Path) -> int | None:
    """The file's integer; None if it is missing or says "max"."""
    try:
        return int(_read(path) or "")
    except ValueError:
        return None


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return None
