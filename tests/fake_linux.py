"""Builds the parts of /proc and /sys that a test needs, below a folder that stands for `/`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path


def plant(root: Path, files: Mapping[str, object]) -> Path:
    """Writes each file below `root` (content by `str`, with the newline that the kernel ends it with)."""
    for name, content in files.items():
        path = root / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{content}\n")
    return root


def v2_group(
    folder: str, *, limit: object = "max", high: object = "max", current: int = 0, stat: str = ""
) -> dict:
    """The memory controller's files of a version 2 group."""
    return {
        f"{folder}/memory.max": limit,
        f"{folder}/memory.high": high,
        f"{folder}/memory.current": current,
        f"{folder}/memory.stat": stat,
        f"{folder}/cgroup.procs": "",
        f"{folder}/cgroup.subtree_control": "",
    }


def v1_group(folder: str, *, limit: int, usage: int = 0, stat: str = "", hierarchy: int = 1) -> dict:
    """The memory controller's files of a version 1 group."""
    return {
        f"{folder}/memory.limit_in_bytes": limit,
        f"{folder}/memory.usage_in_bytes": usage,
        f"{folder}/memory.stat": stat,
        f"{folder}/memory.use_hierarchy": hierarchy,
        f"{folder}/cgroup.procs": "",
    }
