"""This machine: what it has, what limits a process here, and how a limit could be enforced."""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from .cgroup import ROOT, MemoryGroup, ParentGroup, memory_groups, writable_memory_group
from .cpu import Cpu, this_cpu
from .gpu import find_gpus
from .hardware import Hardware, Limit
from .named import with_datasheet
from .units import GIB, MIB, format_size

THIS_MACHINE = "this-machine"
FREE_MEMORY = "free memory"
TOTAL_MEMORY = "total memory"
LIBRARIES = ("torch", "transformers", "peft", "accelerate")

Limiter = Literal["cgroup-v1", "cgroup-v2", "rlimit", "watch"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Diagnosis:
    """What `Hardware` does not hold, and a person who asks why wants to see."""

    cpu: Cpu
    system: str
    python: str
    limits: tuple[Limit, ...]
    """Everything that bounds memory here, tightest first."""
    gpu_note: str | None
    """Why GPUs are missing or hidden."""
    parent_group: ParentGroup | None
    """Where a control group with a limit of its own can be made."""
    limiter: Limiter
    """How a run's budget would be enforced, as events.jsonl spells it."""
    versions: Mapping[str, str | None]
    """Of the training libraries; None for one that is not installed."""


def this_machine(root: Path = ROOT) -> Hardware:
    """This machine as detected; host memory is what the tightest control group leaves of it."""
    cpu, gpus = this_cpu(root), tuple(with_datasheet(gpu) for gpu in find_gpus().gpus)
    total_bytes, _ = _host_memory()
    bounds = [bound for group in memory_groups(root) for bound in (group.limit_bytes, group.high_bytes)]
    memory_bytes = min([total_bytes, *(bound for bound in bounds if bound is not None)])
    return Hardware(
        name=THIS_MACHINE,
        device="cuda" if gpus else "cpu",
        memory_bytes=memory_bytes,
        reserve_bytes=system_reserve(memory_bytes),
        cores=cpu.cores,
        cpu_features=cpu.features,
        gpus=gpus,
        source="detected",
    )


def system_reserve(memory_bytes: int) -> int:
    """What a run leaves of a detected machine's free memory: a sixteenth, within 256 MiB and 1 GiB.

    A chosen margin. It is taken from memory that is free already, so it covers only what the rest of the
    system, and lplan's own watching process, may still grow by during the run.
    """
    return min(max(memory_bytes // 16, 256 * MIB), GIB)


def memory_limits(root: Path = ROOT) -> tuple[Limit, ...]:
    """Everything that bounds a process's memory here, tightest first.

    `limit_bytes` is what the limit leaves a new process: a control group's limit less what its members hold.
    """
    total_bytes, available_bytes = _host_memory()
    found = [
        Limit(name=FREE_MEMORY, limit_bytes=available_bytes, source=_meminfo("MemAvailable", "available")),
        Limit(name=TOTAL_MEMORY, limit_bytes=total_bytes, source=_meminfo("MemTotal", "total")),
        *(limit for group in memory_groups(root) for limit in _group_limits(group)),
        *_resource_limits(),
    ]
    return tuple(sorted(found, key=lambda limit: limit.limit_bytes))


def library_versions() -> dict[str, str | None]:
    """Installed versions of the training libraries, without importing them."""
    return {name: _version(name) for name in LIBRARIES}


def diagnose(root: Path = ROOT) -> Diagnosis:
    """Everything about this machine that `lplan doctor` shows beside `this_machine()`."""
    parent = writable_memory_group(root)
    return Diagnosis(
        cpu=this_cpu(root),
        system=f"{platform.system()} {platform.release()} on {platform.machine()}",
        python=platform.python_version(),
        limits=memory_limits(root),
        gpu_note=find_gpus().reason,
        parent_group=parent,
        limiter=_limiter(parent),
        versions=library_versions(),
    )


def _limiter(parent: ParentGroup | None) -> Limiter:
    if parent is not None:
        return "cgroup-v1" if parent.version == 1 else "cgroup-v2"
    # macOS accepts resource limits on memory and does not enforce them.
    return "rlimit" if sys.platform == "linux" else "watch"


def _host_memory() -> tuple[int, int]:
    """(total, available) bytes; available counts what the system can free without swapping."""
    import psutil

    memory = psutil.virtual_memory()
    return memory.total, memory.available


def _meminfo(linux_name: str, psutil_name: str) -> str:
    """Where psutil reads the figure, as far as it says so."""
    return (
        f"/proc/meminfo {linux_name}" if sys.platform == "linux" else f"psutil.virtual_memory().{psutil_name}"
    )


def _group_limits(group: MemoryGroup) -> Iterator[Limit]:
    held = format_size(group.held_bytes)
    bounds = (
        ("control group", group.limit_bytes, group.limit_source),
        (
            "memory.high",
            group.high_bytes,
            group.limit_source.replace("memory.max", "memory.high"),
        ),
    )
    for name, limit_bytes, source in bounds:
        if limit_bytes is not None:
            yield Limit(
                name=name,
                limit_bytes=max(0, limit_bytes - group.held_bytes),
                source=f"{format_size(limit_bytes)} less {held} in use, {source}",
            )


def _resource_limits() -> Iterator[Limit]:
    """Soft resource limits of this process, which its children inherit and start anew against."""
    try:
        import resource
    except ImportError:
        return
    for name, what in (("RLIMIT_AS", "address space"), ("RLIMIT_DATA", "data segment")):
        soft = resource.getrlimit(getattr(resource, name))[0]
        if soft != resource.RLIM_INFINITY:
            yield Limit(name=name, limit_bytes=soft, source=f"getrlimit, {what} of each process")


def _version(name: str) -> str | None:
    import importlib.metadata

    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
