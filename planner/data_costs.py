"""data.toml: what reading and tokenizing take, and worker processes; written by benchmarks/fit_data.py."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def costs(part: str) -> Mapping[str, Any]:
    """A part of the file."""
    found: Mapping[str, Any] = _data()[part]
    return found


@cache
def _data() -> Mapping[str, Any]:
    return tomllib.loads(files("lplan.planner").joinpath("data.toml").read_text(encoding="utf-8"))
