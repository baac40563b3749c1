"""What somebody's traceback or kernel log says about memory: the evidence, the figures in it, the next knob.

Formats read: PyTorch's CUDA out-of-memory message as of 1.3 ("cached"), 1.4 to 2.0 ("reserved in total by PyTorch")
and 2.1 on ("reserved by PyTorch but unallocated"), c10/core/CUDACachingAllocator; its CPU allocator, c10/core/impl/
alloc_cpu.cpp; the kernel's mm/oom_kill.c; everything else by its fixed words.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from ..profiles.units import format_size

_SIZE = r"([\d.]+) (bytes|KiB|MiB|GiB)"
_UNITS = {"bytes": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """What happened, the line that says so, the figures in it (bytes), and what to change, best first."""

    cause: str
    explanation: str
    evidence: str
    figures: Mapping[str, int] = field(default_factory=dict)
    knobs: tuple[str, ...] = ()


_STEP_KNOBS = (
    "--batch-size 1 with the same --effective-batch: fewer sequences at a time, the same learning",
    "--checkpointing full: activations are computed twice instead of kept",
    "--loss supervised or chunked: never the logits of every position",
    "a smaller --seq-len, or --quantization nf4 with --method qlora",
)
_EXPANDABLE = (
    "PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True (--allocator expandable): reserved memory is in pieces"
)
_HOST_KNOBS = (
    "--ram SIZE: plan for the memory there is; lplan then holds the run to it",
    "--precision bf16: half the bytes of fp32 weights",
    "fewer data loader workers: each is a process of its own",
)


def explain_log(text: str) -> Finding | None:
    """The finding of a log, the surest first; None if nothing in it is known here."""
    for rule in _RULES:
        finding = rule(text)
        if finding is not None:
            return finding
    return None


_CUDA = re.compile(r"CUDA out of memory\. Tried to allocate " + _SIZE + r"[^\n]*")
_FIGURES = {
    "capacity": re.compile(_SIZE + r" total capacity|total capaci?ty of " + _SIZE),
    "free": re.compile(_SIZE + r" (?:is )?free"),
    "allocated": re.compile(_SIZE + r" (?:already allocated|is allocated by PyTorch)"),
    "reserved": re.compile(_SIZE + r" (?:reserved in total by PyTorch|cached)"),
    "unallocated": re.compile(_SIZE + r" is reserved by PyTorch but unallocated"),
    "process": re.compile(r"this process has " + _SIZE + r" memory in use"),
}


def _cuda(text: str) -> Finding | None:
    found = _last(_CUDA, text)
    if found is None:
        return None
    line = found[0]
    figures = {"tried": _bytes(found[1], found[2])}
    for name, pattern in _FIGURES.items():
        if (match := pattern.search(line)) is not None:
            number, unit = (group for group in match.groups() if group is not None)
            figures[name] = _bytes(number, unit)
    if "unallocated" not in figures and {"reserved", "allocated"} <= figures.keys():
        figures["unallocated"] = max(0, figures["reserved"] - figures["allocated"])
    told = ", ".join(f"{format_size(size)} {name}" for name, size in figures.items() if name != "tried")
    capacity = figures.get("capacity", 0)
    idle, allocated = figures.get("unallocated", 0), figures.get("allocated", 0)
    note = ""
    knobs: tuple[str, ...] = _STEP_KNOBS
    if capacity and figures["tried"] > capacity:
        note = "; one tensor alone is larger than the GPU"
    elif idle and idle + figures.get("free", 0) >= figures["tried"]:
        note = "; what is idle and free would hold it, but lies in pieces"
        knobs = (_EXPANDABLE, *_STEP_KNOBS)
    elif capacity and allocated > capacity:
        note = "; more is allocated than the GPU has: it spills into system memory, which is slow"
    return Finding(
        cause="CUDA out of memory",
        explanation=f"an allocation of {format_size(figures['tried'])} found no room on the GPU ({told}){note}",
        evidence=line,
        figures=figures,
        knobs=knobs,
    )


_KERNEL = re.compile(
    r"[^\n]*?(?P<group>Memory cgroup out of memory|Out of memory): Killed? process (?P<pid>\d+) \((?P<name>[^)]*)\)"
    r"[^\n]*?anon-rss:(?P<anon>[\d,]+)\s*kB[^\n]*"
)


def _kernel(text: str) -> Finding | None:
    found = _last(_KERNEL, text)
    if found is None:
        return None
    anonymous = int(found["anon"].replace(",", "")) * 1024
    in_group = found["group"].startswith("Memory cgroup")
    where = (
        "its control group (container, Slurm or systemd limit) was full"
        if in_group
        else "the machine was full"
    )
    return Finding(
        cause="killed by the kernel for memory",
        explanation=f"{found['name']} ({found['pid']}) held {format_size(anonymous)} anonymous: {where}",
        evidence=found[0].strip(),
        figures={"anonymous": anonymous},
        knobs=(*_HOST_KNOBS[:1], "--checkpointing full and a smaller --batch-size", *_HOST_KNOBS[1:]),
    )


_CPU = re.compile(r"[^\n]*DefaultCPUAllocator: [^\n]*tried to allocate (\d+) bytes[^\n]*")


def _cpu_refused(text: str) -> Finding | None:
    found = _last(_CPU, text)
    if found is None:
        return None
    tried = int(found[1])
    return Finding(
        cause="allocation refused",
        explanation=f"the system refused {format_size(tried)} of host memory",
        evidence=found[0].strip(),
        figures={"tried": tried},
        knobs=(*_STEP_KNOBS[:3], *_HOST_KNOBS[:2]),
    )


@dataclass(frozen=True, slots=True)
class _Words:
    """An end that is known by its words alone."""

    pattern: str
    cause: str
    explanation: str
    knobs: tuple[str, ...]

    def __call__(self, text: str) -> Finding | None:
        found = re.search(self.pattern, text)
        if found is None:
            return None
        before, after = text[: found.start()].rpartition("\n")[2], text[found.end() :].partition("\n")[0]
        line = f"{before}{found[0]}{after}".strip()
        return Finding(cause=self.cause, explanation=self.explanation, evidence=line, knobs=self.knobs)


_SCHEDULER = _Words(
    r"Detected \d+ oom[-_]kill event|OOMKilled",
    "killed by the kernel for memory",
    "the scheduler's control group was full",
    _HOST_KNOBS,
)
_BY_WORDS = (
    _Words(
        r"systemd-oomd\[\d+\]: Killed |earlyoom[^\n]*sending SIG(?:TERM|KILL) to process",
        "killed by a memory guard",
        "systemd-oomd or earlyoom ended it before the machine was full",
        _HOST_KNOBS,
    ),
    _Words(
        r"CUDA error: out of memory|cudaErrorMemoryAllocation|CUBLAS_STATUS_ALLOC_FAILED",
        "CUDA out of memory",
        "the driver itself found no room on the GPU: other programs hold it, or PyTorch's allocator holds nearly all",
        ("--vram SIZE: plan for the GPU memory there is", *_STEP_KNOBS),
    ),
    _Words(
        r"insufficient shared memory \(shm\)|Bus error",
        "shared memory is full",
        "a file mapped into memory could not grow: /dev/shm is full, or a disk",
        ("a larger /dev/shm (docker run --shm-size)", "fewer data loader workers"),
    ),
    _Words(
        r"(?m)\b\w*MemoryError(?:$|:)|std::bad_alloc|Cannot allocate memory",
        "allocation refused",
        "the system refused host memory",
        (*_STEP_KNOBS[:3], *_HOST_KNOBS[:2]),
    ),
    _Words(
        r"No space left on device|Disk quota exceeded",
        "disk full",
        "a file could not be written",
        ("free space or raise the quota, or name another folder by --output", "keep fewer checkpoints"),
    ),
    _Words(
        r"CUDA Setup failed despite GPU being available|Could not load bitsandbytes native library",
        "bitsandbytes cannot use this GPU's CUDA",
        "its library for this CUDA version is not found; memory is not the cause",
        ("install a bitsandbytes that has your CUDA version", "--quantization none needs no bitsandbytes"),
    ),
    _Words(
        r"(?m)^[^\n]*(?:line \d+:\s+\d+ )Killed\b|^\s*Killed\s*$|exitcode: -9\)|Signal 9 \(SIGKILL\)",
        "killed by SIGKILL",
        "most often the kernel's out-of-memory killer: `dmesg | grep -i oom` says so",
        _HOST_KNOBS,
    ),
    _Words(
        r"(?m)CANCELLED AT [^\n]* DUE TO |^\s*Terminated\s*$|exitcode: -15\)|got signal: 15|SIGTERM death signal",
        "told to end from outside",
        "SIGTERM: a preemption, a time limit, a shutdown, or an administrator; memory is not the cause",
        (
            "continue from the last checkpoint: lplan fit-and-train --resume RUN",
            "ask for more time, or no preemption",
        ),
    ),
    _Words(
        r"Watchdog caught collective operation timeout",
        "NCCL timed out",
        "one process waited for another that was gone or late: look for the first error of the other ranks",
        ("read the other ranks' logs: one may have been killed for memory",),
    ),
    _Words(
        r"(?m)INFO: task \S+:\d+ blocked for more than \d+ seconds|^Timeout \(\d+:\d\d:\d\d\)!",
        "hang",
        "it waited for something that did not come: a disk or network file system, a lock, another process",
        (
            "read the stacks in the log (faulthandler, py-spy dump)",
            "--threads 1 where a library's threads wait",
        ),
    ),
    _Words(
        r"Fatal Python error: |Segmentation fault|Illegal instruction|exitcode: -(?:4|6|8|11)\)",
        "a library crashed",
        "a fault in compiled code; memory is not the cause",
        (
            "install builds of torch and its companions for this processor",
            "upgrade the library that the stack names",
        ),
    ),
)

# The kernel's word comes first: what a program wrote may be about the consequence.
_RULES: tuple[Callable[[str], Finding | None], ...] = (_kernel, _SCHEDULER, _cuda, _cpu_refused, *_BY_WORDS)


def _last(pattern: re.Pattern[str], text: str) -> re.Match[str] | None:
    found = None
    for match in pattern.finditer(text):
        found = match
    return found


def _bytes(number: str, unit: str) -> int:
    return round(float(number.rstrip(".")) * _UNITS[unit])
