"""Draws a machine: what it has, what limits memory here, and the budget that follows."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from rich.console import ConsoleOptions, RenderableType
from rich.table import Table
from rich.text import Text

from ..profiles.gpu import computes_bf16
from ..profiles.hardware import Budget, Device, Gpu, Hardware, Limit
from ..profiles.machine import Diagnosis
from ..profiles.units import format_size, gib
from .style import BAD, FREE, FULL, GOOD, MUTED, SHADED, STRONG, Adaptive
from .wording import joined

SCHEMA = "lplan.doctor/1"

_LIMITERS = {
    "cgroup-v1": "a control group (version 1), made in",
    "cgroup-v2": "a control group (version 2), made in",
    "rlimit": "a resource limit on the worker's data, and watching: no control group is writable",
    "watch": "watching alone: this system enforces no memory limit that lplan may set",
}
_LABEL_WIDTH = 11
_WIDEST_BAR = 100


def doctor_view(hardware: Hardware, budget: Budget, diagnosis: Diagnosis) -> RenderableType:
    """Everything `lplan doctor` shows; the budget and its reason come last."""

    def draw(options: ConsoleOptions) -> Iterator[RenderableType]:
        yield _facts(hardware, diagnosis, options.max_width - _LABEL_WIDTH)
        yield ""
        yield _limits(diagnosis.limits)
        yield ""
        yield from _bar(hardware, budget, min(options.max_width, _WIDEST_BAR))
        yield _budget_line(budget)

    return Adaptive(draw)


def doctor_dict(hardware: Hardware, budget: Budget, diagnosis: Diagnosis) -> dict[str, Any]:
    """The same as JSON: sizes in bytes, None for what is not known."""
    return {
        "schema": SCHEMA,
        "hardware": {
            "name": hardware.name,
            "device": hardware.device,
            "memory_bytes": hardware.memory_bytes,
            "cores": hardware.cores,
            "cpu_features": list(hardware.cpu_features),
            "computes_bf16": hardware.computes_bf16,
            "gpus": [_gpu_dict(gpu) for gpu in hardware.gpus],
        },
        "cpu": {
            "model": diagnosis.cpu.model,
            "threads": diagnosis.cpu.threads,
            "quota": diagnosis.cpu.quota,
        },
        "gpu_note": diagnosis.gpu_note,
        "system": diagnosis.system,
        "limits": [_limit_dict(limit) for limit in diagnosis.limits],
        "enforcement": {
            "limiter": diagnosis.limiter,
            "parent_group": str(diagnosis.parent_group.path) if diagnosis.parent_group else None,
        },
        "budget": {
            "device": budget.device,
            "budget_bytes": budget.budget_bytes,
            "reserve_bytes": budget.reserve_bytes,
            "limits": [_limit_dict(limit) for limit in budget.limits],
            "reason": budget.reason,
        },
        "versions": {"python": diagnosis.python, **diagnosis.versions},
    }


def _facts(hardware: Hardware, diagnosis: Diagnosis, width: int) -> Table:
    grid = Table.grid()
    grid.add_column(width=_LABEL_WIDTH, style=STRONG)
    grid.add_column(overflow="fold")
    grid.add_row("CPU", _cpu(hardware, diagnosis, width))
    grid.add_row("GPU", _gpus(hardware, diagnosis))
    grid.add_row("system", f"{diagnosis.system}, Python {diagnosis.python}")
    grid.add_row("libraries", _libraries(diagnosis, width))
    grid.add_row("enforcing", _enforcement(diagnosis))
    return grid


def _cpu(hardware: Hardware, diagnosis: Diagnosis, width: int) -> Text:
    cpu = diagnosis.cpu
    cores = f"{_plural(cpu.cores, 'usable core')}, {_plural(cpu.threads, 'thread')}"
    if cpu.quota is not None:
        cores += f", quota of {cpu.quota:g} CPUs"
    bf16 = "computes bf16" if hardware.computes_bf16 else "no bf16 instructions"
    features = joined((*hardware.cpu_features, bf16), width)
    return Text.assemble(joined((cpu.model, cores), width), "\n", (features, MUTED))


def _plural(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _gpus(hardware: Hardware, diagnosis: Diagnosis) -> Text:
    lines = [_gpu_line(gpu) for gpu in hardware.gpus] or ["none"]
    if diagnosis.gpu_note:
        lines.append(diagnosis.gpu_note)
    return Text("\n".join(lines) if hardware.gpus else ": ".join(lines))


def _gpu_line(gpu: Gpu) -> str:
    free = "" if gpu.free_bytes is None else f", {format_size(gpu.free_bytes)} free"
    bf16 = "computes bf16" if computes_bf16(gpu) else "no bf16"
    major, minor = gpu.capability
    driver = f", driver {gpu.driver}" if gpu.driver else ""
    return f"{gpu.name}: {format_size(gpu.memory_bytes)}{free}, capability {major}.{minor}, {bf16}{driver}"


def _libraries(diagnosis: Diagnosis, width: int) -> Text:
    known = [f"{name} {version}" for name, version in diagnosis.versions.items() if version]
    missing = [name for name, version in diagnosis.versions.items() if not version]
    text = Text(joined(known, width))
    if missing:
        text.append(f"{chr(10) if known else ''}not installed: {', '.join(missing)}", style=BAD)
    return text


def _enforcement(diagnosis: Diagnosis) -> Text:
    how = Text(_LIMITERS[diagnosis.limiter])
    if diagnosis.parent_group is not None:
        how.append(f"\n{diagnosis.parent_group.path}", style=MUTED)
    return how


def _limits(limits: tuple[Limit, ...]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style=STRONG, pad_edge=False)
    table.add_column("memory limit", no_wrap=True)
    table.add_column("GiB left", justify="right", no_wrap=True)
    table.add_column("read from", overflow="fold", style=MUTED)
    for limit in limits:
        table.add_row(limit.name, gib(limit.limit_bytes), limit.source)
    return table


def _bar(hardware: Hardware, budget: Budget, width: int) -> Iterator[RenderableType]:
    """The device's memory: the budget, the reserve, and the rest. Nothing for a budget beyond the device."""
    total_bytes = _device_memory(hardware, budget.device)
    taken_bytes = total_bytes - budget.budget_bytes - budget.reserve_bytes
    if taken_bytes < 0:
        return
    used = round(width * budget.budget_bytes / total_bytes)
    kept = min(width - used, math.ceil(width * budget.reserve_bytes / total_bytes))
    parts = (
        (FULL, "green", used, "budget", budget.budget_bytes),
        (SHADED, "yellow", kept, "kept for the system", budget.reserve_bytes),
        (FREE, MUTED, width - used - kept, "not available", taken_bytes),
    )
    yield Text.assemble(*((glyph * cells, style) for glyph, style, cells, _, _ in parts))
    legend = [
        Text.assemble((glyph, style), f" {name} {format_size(size_bytes)}")
        for glyph, style, _, name, size_bytes in parts
        if size_bytes
    ]
    yield Text("   ").join(legend)
    yield ""


def _device_memory(hardware: Hardware, device: Device) -> int:
    if device == "cpu":
        return hardware.memory_bytes
    return hardware.gpus[0].memory_bytes if hardware.gpus else 0


def _budget_line(budget: Budget) -> Text:
    size = (format_size(budget.budget_bytes), GOOD if budget.budget_bytes else BAD)
    return Text.assemble(("budget: ", STRONG), size, f" ({budget.reason})")


def _limit_dict(limit: Limit) -> dict[str, Any]:
    return {"name": limit.name, "limit_bytes": limit.limit_bytes, "source": limit.source}


def _gpu_dict(gpu: Gpu) -> dict[str, Any]:
    return {
        "name": gpu.name,
        "memory_bytes": gpu.memory_bytes,
        "free_bytes": gpu.free_bytes,
        "capability": list(gpu.capability),
        "computes_bf16": computes_bf16(gpu),
        "driver": gpu.driver,
    }
