"""Named machines: data with sources, from hardware.toml."""

from __future__ import annotations

import difflib
import re
import sys
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

from .errors import UsageError
from .hardware import Gpu, Hardware

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

CATALOGUE = Path(__file__).with_name("hardware.toml")


@cache
def named_hardware() -> Mapping[str, Hardware]:
    """All named machines, in the catalogue's order."""
    rows = tomllib.loads(CATALOGUE.read_text(encoding="utf-8"))
    return MappingProxyType({name: _hardware(name, row) for name, row in rows.items()})


def find_hardware(name: str) -> Hardware:
    """The machine of that name, in any case. Raises UsageError with the nearest names."""
    machines = named_hardware()
    machine = machines.get(name.strip().lower())
    if machine is None:
        near = difflib.get_close_matches(name.strip().lower(), machines, n=3, cutoff=0.5)
        hint = f"did you mean {', '.join(near)}?" if near else f"known: {', '.join(machines)}"
        raise UsageError(f"no machine is called {name!r}", hint=hint)
    return machine


def with_datasheet(gpu: Gpu) -> Gpu:
    """A detected GPU with the maker's figures of its kind in the catalogue; as it is, where that has none.

    Boards of another form ("NVIDIA A100-PCIE-40GB" beside "NVIDIA A100-SXM4-40GB") get their sibling's figures, the
    one with the nearest memory; a part of a device (MIG) has none.
    """
    words = _kind(gpu.name)
    alike = [known for row in named_hardware().values() for known in row.gpus if _kind(known.name) == words]
    if not alike or " MIG " in gpu.name:
        return gpu
    sheet = min(alike, key=lambda known: abs(known.memory_bytes - gpu.memory_bytes))
    return replace(
        gpu,
        multiprocessors=sheet.multiprocessors,
        half_flop_per_s=sheet.half_flop_per_s,
        float_flop_per_s=sheet.float_flop_per_s,
        bandwidth_bytes_per_s=sheet.bandwidth_bytes_per_s,
    )


def _kind(name: str) -> tuple[str, ...]:
    """What is sold under a name: without the maker, the form of the board, and the size of its memory."""
    words = name.upper().replace("-", " ").split()
    return tuple(word for word in words if word not in _NOT_THE_KIND and not _MEMORY.fullmatch(word))


_NOT_THE_KIND = {
    *("NVIDIA", "TESLA", "GEFORCE", "AMD", "INSTINCT"),
    *("SXM2", "SXM3", "SXM4", "SXM5", "PCIE", "HBM2", "HBM3"),
}
_MEMORY = re.compile(r"\d+GB")


def _hardware(name: str, row: Mapping[str, Any]) -> Hardware:
    return Hardware(
        name=name,
        device="cuda" if row.get("gpus") else "cpu",
        memory_bytes=row["memory_bytes"],
        reserve_bytes=row["reserve_bytes"],
        cores=row["cores"],
        cpu_features=tuple(row["cpu_features"]),
        gpus=tuple(_gpu(gpu) for gpu in row.get("gpus", ())),
        source=row["source"],
        checked=row["checked"].isoformat(),
    )


def _gpu(row: Mapping[str, Any]) -> Gpu:
    major, minor = row["capability"]
    return Gpu(
        name=row["name"],
        memory_bytes=row["memory_bytes"],
        free_bytes=None,
        capability=(major, minor),
        multiprocessors=row["multiprocessors"],
        half_flop_per_s=row["half_flop_per_s"],
        float_flop_per_s=row["float_flop_per_s"],
        bandwidth_bytes_per_s=row["bandwidth_bytes_per_s"],
    )
