"""What was measured or fitted, with its origin: the .toml files beside the modules that use them."""

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


@cache
def constants(name: str) -> Mapping[str, Any]:
    """The file of this name, without its suffix."""
    return tomllib.loads(files("lplan.planner").joinpath(f"{name}.toml").read_text(encoding="utf-8"))
