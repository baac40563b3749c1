"""A CUDA process beside its tensors: context, workspaces, ranges. Data from cuda.toml."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from ..profiles.hardware import Gpu
from .recipe import Recipe
from .runtime import Spread
from .simulation import Surroundings

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


@cache
def _data() -> Mapping[str, Any]:
    return tomllib.loads(files("lplan.planner").joinpath("cuda.toml").read_text(encoding="utf-8"))


def context_bytes(gpu: Gpu) -> int:
    """What the driver and the libraries take of the device."""
    row = _data()["context"]
    measured = row["measured_bytes"].get(gpu.name)
    return int(measured or row["base_bytes"] + (gpu.multiprocessors or 0) * row["multiprocessor_bytes"])


def surroundings(recipe: Recipe, gpu: Gpu) -> Surroundings:
    """What PyTorch allocates on this GPU besides the recipe's own tensors."""
    row = _data()["workspace"]
    capability = ".".join(map(str, gpu.capability))
    quantized = recipe.quantization != "none"
    return Surroundings(
        workspace_bytes=row["bytes_by_capability"].get(capability, row["default_bytes"]),
        warm_up=quantized,
        clears_cache=quantized and recipe.kbit_preparation,
    )


def spread(gpu: Gpu) -> Spread:
    """The range around an expected peak of a process on this GPU."""
    rows = _data()["spread"]
    return Spread(**rows.get(gpu.name, rows["other"]))
