"""The models that lplan knows by name: models.toml as profiles."""

from __future__ import annotations

import datetime
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

from .model import ModelProfile, WeightFiles
from .safetensors_header import DTYPE_BITS

_REQUIRED = ("hub", "architecture", "parameters", "counted", "dtype", "format", "source", "checked", "config")
_OPTIONAL = ("stored_bytes", "null")


@cache
def catalogue() -> Mapping[str, ModelProfile]:
    """Every known model by alias, in the order of models.toml. Parses the file once (5 ms for 53 rows)."""
    text = Path(__file__).with_name("models.toml").read_text(encoding="utf-8")
    rows: dict[str, dict[str, Any]] = tomllib.loads(text)
    return MappingProxyType({alias: profile_of_row(alias, row) for alias, row in rows.items()})


def in_catalogue(name: str) -> ModelProfile | None:
    """The model of an alias or a hub id, whatever its case; None if the catalogue has neither."""
    wanted = name.lower()
    if wanted in catalogue():
        return catalogue()[wanted]
    return next((model for model in catalogue().values() if model.id.lower() == wanted), None)


def profile_of_row(alias: str, row: Mapping[str, Any]) -> ModelProfile:
    """The profile of one row of models.toml. Raises ValueError for a row that is not complete and sourced."""
    _check_row(alias, row)
    nulls = dict.fromkeys(row.get("null", ()))
    config = {"architectures": [row["architecture"]], "dtype": _compute_dtype(row), **row["config"], **nulls}
    return ModelProfile(
        id=row["hub"],
        alias=alias,
        model_type=config["model_type"],
        architecture=row["architecture"],
        config=config,
        parameters=row["parameters"],
        weights=WeightFiles(format=row["format"], dtype=row["dtype"], total_bytes=_stored_bytes(row)),
        location=None,
        source=row["source"],
        checked=row["checked"].isoformat(),
    )


def _compute_dtype(row: Mapping[str, Any]) -> str:
    # A packed format is a way of storing, not of computing; all that ship one compute in bfloat16.
    return "bfloat16" if row["dtype"] == "mxfp4" else row["dtype"]


def _stored_bytes(row: Mapping[str, Any]) -> int:
    stored: int | None = row.get("stored_bytes")
    return row["parameters"] * DTYPE_BITS[row["dtype"]] // 8 if stored is None else stored


def _check_row(alias: str, row: Mapping[str, Any]) -> None:
    missing = [key for key in _REQUIRED if not row.get(key)]
    unknown = [key for key in row if key not in _REQUIRED + _OPTIONAL]
    if missing or unknown:
        problem = f"lacks {', '.join(missing)}" if missing else f"has unknown keys {', '.join(unknown)}"
        raise ValueError(f"models.toml: {alias} {problem}")
    if alias != alias.lower():
        raise ValueError(f"models.toml: {alias} is not lower-case")
    if not isinstance(row["checked"], datetime.date):
        raise ValueError(f"models.toml: {alias}: checked is not a date")
    if "model_type" not in row["config"]:
        raise ValueError(f"models.toml: {alias}: config lacks model_type")
    if "stored_bytes" not in row and row["dtype"] not in DTYPE_BITS:
        raise ValueError(f"models.toml: {alias} lacks stored_bytes, which {row['dtype']} needs")
