"""Runs a command and watches the memory of its process tree."""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lplan.trainer.process_tree import ProcessTree, Usage

INTERVAL_S = 0.03


@dataclass(frozen=True, kw_only=True, slots=True)
class Finished:
    """A command that has ended; the memory is that of its whole tree.

    `rss_bytes` is the higher of the samples and of the kernel's mark (VmHWM) of the first process, so that
    nothing between two samples is missed unless it is the last thing that the command does.
    `anonymous_bytes` is the highest sample: the kernel keeps no mark of it.
    """

    rss_bytes: int
    anonymous_bytes: int
    wall_s: float
    returncode: int
    stdout: str
    stderr: str


def peak_of(
    command: Sequence[str],
    *,
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
    interval_s: float = INTERVAL_S,
) -> Finished:
    """Run `command` to its end, however that comes; a status other than 0 is the caller's to judge.

    `environment` is the whole of it (None: this process's), `folder` the working directory.
    """
    with tempfile.TemporaryFile("w+") as stdout, tempfile.TemporaryFile("w+") as stderr:
        started_s = time.perf_counter()
        process = subprocess.Popen(command, env=environment, cwd=folder, stdout=stdout, stderr=stderr)
        try:
            usages = _watched(process, interval_s)
        finally:
            process.kill()
            process.wait()
        wall_s = time.perf_counter() - started_s
        stdout.seek(0)
        stderr.seek(0)
        return Finished(
            rss_bytes=max((max(u.rss_bytes, u.high_water_bytes or 0) for u in usages), default=0),
            anonymous_bytes=max((u.anonymous_bytes for u in usages), default=0),
            wall_s=wall_s,
            returncode=process.returncode,
            stdout=stdout.read(),
            stderr=stderr.read(),
        )


def _watched(process: subprocess.Popen[bytes], interval_s: float) -> list[Usage]:
    """Every reading from the start of the process to its end."""
    tree = ProcessTree(process.pid)
    usages = []
    while process.poll() is None:
        usage = tree.usage()
        if usage is not None:
            usages.append(usage)
        time.sleep(interval_s)
    return usages
