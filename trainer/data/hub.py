"""Data sets of the Hugging Face hub, through the optional package `datasets`."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from typing import Any

from ...profiles.errors import LplanError, UsageError
from .rows import Row

_NAME = re.compile(r"[\w-][\w.-]*(?:/[\w.-]+)?(?::[\w.-]+)?")
_SPLITS = {
    "train": "train",
    "validation": "validation",
    "valid": "validation",
    "dev": "validation",
    "test": "test",
}


def looks_like_hub_name(location: str) -> bool:
    """Whether `location` could be name, owner/name or either with :configuration."""
    return _NAME.fullmatch(location) is not None


def hub_rows(location: str) -> tuple[dict[str, Iterator[tuple[str, Row]]], str]:
    """Rows by split, with the SHA-256 over their JSON.

    Raises UsageError when `datasets` is not installed and LplanError when the hub does not give the set.
    """
    splits = _load(location)
    digest = hashlib.sha256()
    for split in splits.values():
        for row in split:
            digest.update(json.dumps(row, sort_keys=True, default=str).encode())
    return {_SPLITS[name]: _rows(name, split) for name, split in splits.items()}, digest.hexdigest()


def _load(location: str) -> dict[str, Any]:
    try:
        import datasets
    except ImportError as error:
        message = f"there is no file or folder {location}"
        hint = "check the path; for the hub's data set of this name: pip install 'lplan[hub-data]'"
        raise UsageError(message, hint=hint) from error
    name, _, configuration = location.partition(":")
    try:
        loaded = datasets.load_dataset(name, configuration or None)
    except Exception as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        message = f"{location} is no local file, and the hub does not give a data set of this name: {reason}"
        raise LplanError(
            message, hint="check name and connection, or download its files and name them"
        ) from error
    return {name: loaded[name] for name in loaded if name in _SPLITS}


def _rows(name: str, split: Any) -> Iterator[tuple[str, Row]]:
    """Rows with class numbers spelled out as the names they stand for."""
    classes = {c: f.names for c, f in split.features.items() if getattr(f, "names", None)}
    for number, row in enumerate(split, start=1):
        spelled = {
            c: names[row[c]] for c, names in classes.items() if isinstance(row[c], int) and row[c] >= 0
        }
        yield f"{name}, row {number}", {**row, **spelled}
