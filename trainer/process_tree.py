"""A process and everything it started: the memory they hold, and their end.

Linux: /proc/PID/status (RssAnon, RssFile, RssShmem, VmSwap, VmHWM; proc_pid_status(5)), accurate to some
hundred KiB because the kernel batches its counters. With more than one process, shares of
/proc/PID/smaps_rollup (Pss_*), so that pages shared after a fork count once. Elsewhere psutil's RSS, all of
it called anonymous. Shared memory counts as anonymous: without swap the kernel cannot drop it.
"""

from __future__ import annotations

import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_LINUX = sys.platform == "linux"
_PROC = Path("/proc")
_STATUS = re.compile(rb"^(VmHWM|RssAnon|RssFile|RssShmem|VmSwap):\s+(\d+) kB", re.MULTILINE)
_SHARES = re.compile(rb"^(Pss_Anon|Pss_File|Pss_Shmem|SwapPss):\s+(\d+) kB", re.MULTILINE)
_REFRESH_S = 0.5
_KILL_TIMEOUT_S = 5.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Usage:
    """Resident memory at one instant. `high_water_bytes` is the kernel's mark of the root's RSS, if kept."""

    anonymous_bytes: int
    file_bytes: int
    swap_bytes: int
    high_water_bytes: int | None = None

    @property
    def rss_bytes(self) -> int:
        """Resident in all."""
        return self.anonymous_bytes + self.file_bytes


@dataclass(frozen=True, slots=True)
class _Stat:
    state: str
    session: int
    start: int


class ProcessTree:
    """The process `root`, leader of its own session, and its descendants."""

    def __init__(self, root: int) -> None:
        self.root = root
        self._seen: dict[int, int] = {}
        self._refreshed_s = float("-inf")

    def usage(self) -> Usage | None:
        """Memory of the whole tree; None once the root has ended. New children are found within 0.5 s."""
        if not _LINUX:
            return _portable_usage(self.root)
        own = usage_of(self.root)
        self._refresh()
        others = [pid for pid in self._seen if pid != self.root]
        if own is None or not others:
            return own
        shares = [_share_of(self.root) or own, *filter(None, map(_share_of, others))]
        return Usage(
            anonymous_bytes=sum(share.anonymous_bytes for share in shares),
            file_bytes=sum(share.file_bytes for share in shares),
            swap_bytes=sum(share.swap_bytes for share in shares),
            high_water_bytes=own.high_water_bytes,
        )

    def root_state(self) -> str | None:
        """The root's state as a letter of proc_pid_stat(5); None where that is not known."""
        stat = _stat(self.root)
        return None if stat is None else stat.state

    def known(self) -> set[int]:
        """The root and what was found below it when last looked for: cheap, at most 0.5 s old."""
        return {self.root, *self._seen}

    def alive(self) -> set[int]:
        """Running processes of the session, and descendants seen earlier that left it."""
        if not _LINUX:
            return _portable_members(self.root)
        running = {pid: stat for pid, stat in _all_stats() if stat.state not in "ZX"}
        strays = {pid for pid, start in self._seen.items() if pid in running and running[pid].start == start}
        return strays | {pid for pid, stat in running.items() if stat.session == self.root}

    def kill(self, others: Callable[[], Iterable[int]] = tuple) -> bool:
        """End all of them, and `others` (a control group's members), by SIGKILL; whether none is left."""
        return kill_until_gone(lambda: self.alive() | set(others()))

    def _refresh(self) -> None:
        now_s = time.monotonic()
        if now_s - self._refreshed_s < _REFRESH_S:
            return
        self._refreshed_s = now_s
        alive = {pid: stat.start for pid in _descendants(self.root) if (stat := _stat(pid)) is not None}
        strays = {pid: start for pid, start in self._seen.items() if pid not in alive and _is(pid, start)}
        self._seen = alive | strays


def kill_until_gone(members: Callable[[], set[int]]) -> bool:
    """SIGKILL to all members, asked anew each time, until there are none; False after five seconds."""
    deadline_s = time.monotonic() + _KILL_TIMEOUT_S
    while alive := members():
        for pid in alive:
            with suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        if time.monotonic() > deadline_s:
            return False
        time.sleep(0.01)
    return True


def usage_of(pid: int | str) -> Usage | None:
    """One process's memory; None if it is gone."""
    fields = _fields(_PROC / str(pid) / "status", _STATUS)
    if "RssAnon" not in fields:
        return None
    return Usage(
        anonymous_bytes=fields["RssAnon"] + fields.get("RssShmem", 0),
        file_bytes=fields.get("RssFile", 0),
        swap_bytes=fields.get("VmSwap", 0),
        high_water_bytes=fields.get("VmHWM"),
    )


def reset_high_water() -> bool:
    """Set this process's VmHWM back to its present RSS (clear_refs, proc(5)); whether that is allowed."""
    try:
        (_PROC / "self" / "clear_refs").write_bytes(b"5")
    except OSError:
        return False
    return True


def start_of(pid: int) -> int | None:
    """When a process started, in clock ticks since boot: with its number, its identity. None if gone."""
    stat = _stat(pid)
    return None if stat is None or stat.state in "ZX" else stat.start


def _share_of(pid: int) -> Usage | None:
    fields = _fields(_PROC / str(pid) / "smaps_rollup", _SHARES)
    if "Pss_Anon" not in fields:
        return usage_of(pid)
    return Usage(
        anonymous_bytes=fields["Pss_Anon"] + fields.get("Pss_Shmem", 0),
        file_bytes=fields.get("Pss_File", 0),
        swap_bytes=fields.get("SwapPss", 0),
    )


def _fields(path: Path, pattern: re.Pattern[bytes]) -> dict[str, int]:
    """Named sizes of a /proc file, in bytes; empty if the process is gone or may not be read."""
    try:
        content = path.read_bytes()
    except OSError:
        return {}
    return {name.decode(): int(kib) * 1024 for name, kib in pattern.findall(content)}


def _descendants(root: int) -> list[int]:
    """`root` and every process below it, by each thread's list of children."""
    found = [root]
    for pid in found:
        with suppress(OSError):
            for thread in os.listdir(f"/proc/{pid}/task"):  # noqa: PTH208 - ten times as fast as iterdir
                children = Path(f"/proc/{pid}/task/{thread}/children").read_text()
                found.extend(int(child) for child in children.split())
    return found


def _stat(pid: int) -> _Stat | None:
    try:
        content = (_PROC / str(pid) / "stat").read_text(errors="replace")
    except OSError:
        return None
    # The second field is the program's name in parentheses, which may itself hold blanks and parentheses.
    fields = content.rpartition(")")[2].split()
    return _Stat(state=fields[0], session=int(fields[3]), start=int(fields[19]))


def _is(pid: int, start: int) -> bool:
    return start_of(pid) == start


def _all_stats() -> list[tuple[int, _Stat]]:
    pids = [int(name) for name in os.listdir(_PROC) if name.isdigit()]  # noqa: PTH208
    return [(pid, stat) for pid in pids if (stat := _stat(pid)) is not None]


def _portable_members(root: int) -> set[int]:
    import psutil

    try:
        process = psutil.Process(root)
        family = [process, *process.children(recursive=True)]
        return {p.pid for p in family if p.status() != psutil.STATUS_ZOMBIE}
    except psutil.Error:
        return set()


def _portable_usage(root: int) -> Usage | None:
    import psutil

    members = _portable_members(root)
    if root not in members:
        return None
    rss_bytes = 0
    for pid in members:
        with suppress(psutil.Error):
            rss_bytes += psutil.Process(pid).memory_info().rss
    return Usage(anonymous_bytes=rss_bytes, file_bytes=0, swap_bytes=0)
