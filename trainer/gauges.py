"""What surrounds a process tree: its control group, the pressure on memory, its GPU.

A gauge gives optional fields of a Sample, and leaves out what is not known here. Sources: Linux
Documentation/accounting/psi.rst; NVML's reference for nvmlDeviceGetComputeRunningProcesses and
nvmlDeviceGetMemoryInfo.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from ..profiles.cgroup import ROOT, memory_groups
from ..profiles.gpu import first_handle
from .cgroup_limit import ControlGroup
from .limit import DeviceLimit, Limiter

Gauge: TypeAlias = Callable[[], Mapping[str, Any]]

_AVERAGE = re.compile(r"^(some|full) avg10=([\d.]+)", re.MULTILINE)


def gauges_of_run(limiter: Limiter, members: Callable[[], set[int]]) -> tuple[Gauge, ...]:
    """For a worker under `limiter`; its GPU only where that is what is limited."""
    gpu = gpu_gauge(members, alone=True) if isinstance(limiter, DeviceLimit) else None
    if isinstance(limiter, ControlGroup):
        return (group_gauge(limiter),)
    return (pressure_gauge(), *([gpu] if gpu is not None else []))


def gauges_of_process(pid: int, members: Callable[[], set[int]], root: Path = ROOT) -> tuple[Gauge, ...]:
    """For any process: its innermost control group, or the machine's pressure without one; the GPU that is here."""
    group = next(iter(memory_groups(root, pid)), None)
    around = pressure_gauge(root)
    if group is not None:
        around = group_gauge(ControlGroup(group.version, group.path, group.limit_bytes or 0), root)
    gpu = gpu_gauge(members, alone=False)
    return (around, *([gpu] if gpu is not None else []))


def pressure_gauge(root: Path = ROOT) -> Gauge:
    """Pressure on the machine's memory; nothing on a kernel that does not tell."""
    return lambda: _pressure(root / "proc/pressure/memory")


def group_gauge(group: ControlGroup, root: Path = ROOT) -> Gauge:
    """Usage, hits of the limit and pressure of a control group. Version 1 knows no pressure: the machine's."""
    own = group.path / "memory.pressure"
    pressure = own if own.exists() else root / "proc/pressure/memory"

    def gauge() -> Mapping[str, Any]:
        figures = {"cgroup_bytes": group.usage_bytes(), "limit_hits": group.limit_hits()}
        return {**figures, **_pressure(pressure)}

    return gauge


def gpu_gauge(members: Callable[[], set[int]], *, alone: bool) -> Gauge | None:
    """What `members` hold of the first visible GPU, and what all do; None without NVML or GPU.

    Where the driver does not say what a process holds (WSL2, some MIG instances) or knows processes by other
    numbers (a container's), members that are `alone` in starting to use the GPU hold what it has gained.
    """
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
        handle = first_handle(pynvml, os.environ.get("CUDA_VISIBLE_DEVICES"))
        before_bytes = 0 if handle is None else _device_used(pynvml, handle)
    except pynvml.NVMLError:
        return None
    if handle is None:
        return None

    def gauge() -> Mapping[str, Any]:
        try:
            used_bytes = _device_used(pynvml, handle)
            own_bytes = _held_by(pynvml, handle, members())
        except pynvml.NVMLError:
            return {}
        if own_bytes is None and alone:
            own_bytes = max(0, used_bytes - before_bytes)
        return {"device_used_bytes": used_bytes, "device_bytes": own_bytes}

    return gauge


def held_of_gpu(members: set[int]) -> int | None:
    """Bytes of the first visible GPU that processes hold now; None where the driver does not tell."""
    try:
        import pynvml

        pynvml.nvmlInit()
        handle = first_handle(pynvml, os.environ.get("CUDA_VISIBLE_DEVICES"))
        return None if handle is None else _held_by(pynvml, handle, members)
    except ImportError:
        return None
    except pynvml.NVMLError:
        return None


def _device_used(nvml: Any, handle: Any) -> int:
    return int(nvml.nvmlDeviceGetMemoryInfo(handle).used)


def _held_by(nvml: Any, handle: Any, members: set[int]) -> int | None:
    """Bytes of the processes that are `members`; None where the driver does not tell them apart. Where it knows others
    by the numbers that they have here, and none of ours, ours hold nothing."""
    try:
        running = nvml.nvmlDeviceGetComputeRunningProcesses(handle)
    except nvml.NVMLError:
        return None
    sizes = [process.usedGpuMemory for process in running if process.pid in members]
    if not sizes and not (running and all(Path(f"/proc/{process.pid}").exists() for process in running)):
        return None
    return None if None in sizes else sum(map(int, sizes))


def _pressure(path: Path) -> dict[str, float]:
    return {f"pressure_{who}": float(share) for who, share in _AVERAGE.findall(_read(path))}


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""
