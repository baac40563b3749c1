"""Named machines: data with sources, from hardware.toml."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Mapping
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
        near = difflib.get_close_matches(name.strip().lower(), machines, n=3, cutoff=0.5) or list(machines)
        raise UsageError(f"no machine is called {name!r}", hint=f"did you mean {', '.join(near)}?")
    return machine


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
