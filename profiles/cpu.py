"""This machine's processor: usable cores, and the instructions that matter to training."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from pathlib import Path

from .cgroup import ROOT, cpu_quota

# As Linux names them in /proc/cpuinfo: "flags" on x86, "Features" on Arm.
FEATURES = (
    "avx2",
    "avx512f",
    "avx512_vnni",
    "avx512_bf16",
    "amx_int8",
    "amx_bf16",
    "sve",
    "i8mm",
    "bf16",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Cpu:
    """A processor as this process may use it.

    `cores` are physical cores left by affinity and quota, at least 1; `threads` the hardware threads that
    affinity leaves; `quota` the CPUs' worth of time that control groups allow, None without a quota.
    """

    model: str
    cores: int
    threads: int
    quota: float | None
    features: tuple[str, ...]


def this_cpu(root: Path = ROOT) -> Cpu:
    """The processor of this machine. Off Linux the features are not known and stay empty."""
    info = _cpuinfo(root)
    threads = _allowed_threads()
    physical = _physical_cores(root, threads)
    quota = cpu_quota(root)
    flags = f"{info.get('flags', '')} {info.get('Features', '')}".split()
    return Cpu(
        model=info.get("model name") or platform.processor() or platform.machine() or "unknown",
        cores=physical if quota is None else max(1, min(physical, int(quota))),
        threads=len(threads),
        quota=quota,
        features=tuple(feature for feature in FEATURES if feature in flags),
    )


def _cpuinfo(root: Path) -> dict[str, str]:
    """The first processor's entry of /proc/cpuinfo."""
    try:
        text = (root / "proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return {}
    pairs = (line.partition(":") for line in text.split("\n\n")[0].splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}


def _allowed_threads() -> frozenset[int]:
    """Numbers of the hardware threads this process may run on."""
    try:
        return frozenset(os.sched_getaffinity(0))
    except (AttributeError, OSError):
        return frozenset(range(os.cpu_count() or 1))


def _physical_cores(root: Path, threads: frozenset[int]) -> int:
    """Cores behind the threads: hyper-threads of one core list the same siblings."""
    siblings = set()
    for thread in threads:
        path = root / f"sys/devices/system/cpu/cpu{thread}/topology/thread_siblings_list"
        try:
            siblings.add(path.read_text(encoding="ascii").strip())
        except OSError:
            return _physical_cores_by_psutil(len(threads))
    return len(siblings)


def _physical_cores_by_psutil(threads: int) -> int:
    import psutil

    return min(threads, psutil.cpu_count(logical=False) or threads)
