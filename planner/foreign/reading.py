"""From a configuration file to a mapping: JSON or YAML, plain data only."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ...profiles.errors import UsageError

_LARGEST_BYTES = 2**20
_KINDS = "give a training configuration as JSON or YAML"


def read_mapping(file: Path) -> dict[str, Any]:
    """What a JSON or YAML file says at its top level; a YAML file is data, whatever its tags ask for.

    Raises UsageError for a file that is not there, cannot be read, is broken, or is no mapping.
    """
    text = _text(file)
    load = json.loads if file.suffix.lower() == ".json" else _safe_loader()
    try:
        data = load(text)
    except (ValueError, RecursionError) as error:
        kind = "JSON" if load is json.loads else "YAML"
        raise UsageError(f"{file} is not valid {kind}: {_first_line(error)}", hint=_KINDS) from error
    if not isinstance(data, Mapping):
        raise UsageError(f"{file} is not a mapping of names to values", hint=_KINDS)
    return {str(name): value for name, value in data.items()}


def _text(file: Path) -> str:
    if not file.exists():
        raise UsageError(f"there is no {file}", hint=_KINDS)
    if not file.is_file():
        raise UsageError(f"{file} is not a file", hint=_KINDS)
    try:
        if file.stat().st_size > _LARGEST_BYTES:
            raise UsageError(f"{file} is too large to be a training configuration", hint=_KINDS)
        return file.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UsageError(f"cannot read {file}: {error.strerror}", hint="check its permissions") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{file} is not text", hint=_KINDS) from error


def _safe_loader() -> Callable[[str], Any]:
    import yaml

    def load(text: str) -> Any:
        try:
            return yaml.safe_load(text)
        except yaml.YAMLError as error:
            where = getattr(error, "problem_mark", None)
            line = f", line {where.line + 1}" if where is not None else ""
            raise ValueError(f"{getattr(error, 'problem', None) or error}{line}") from error

    return load


def _first_line(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    return (str(error).splitlines() or [type(error).__name__])[0]
