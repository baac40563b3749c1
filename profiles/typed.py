"""Whether the fields of a dataclass hold what they are said to: JSON from a file may hold anything."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints


def require_types(noun: Any) -> None:
    """Raises TypeError for a field of a dataclass, or of one inside it, whose value is of another type.

    Numbers have to be finite, and a float may be an int. Fields of any other kind of type are taken as they are.
    """
    for name, plain, hint in _checks(type(noun)):  # type: ignore[arg-type]
        value = getattr(noun, name)
        if type(value) in plain and (type(value) is not float or math.isfinite(value)):
            continue
        if not _is(value, hint):
            raise TypeError(f"{type(noun).__name__}.{name} cannot be {str(value)[:40]!r}")


@cache
def _checks(cls: type) -> tuple[tuple[str, frozenset[type], Any], ...]:
    """Name, types that are right at a glance, and the hint of every field: a record has many events."""
    known = get_type_hints(cls)
    return tuple((field.name, _plain(known[field.name]), known[field.name]) for field in fields(cls))


def _plain(hint: Any) -> frozenset[type]:
    kinds = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    return frozenset(kind for kind in kinds if kind in (int, float, str, bool, type(None)))


def _is(value: Any, hint: Any) -> bool:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return any(_is(value, one) for one in arguments)
    if origin is Literal:
        return isinstance(value, str | int) and value in arguments
    if origin is tuple:
        return _is_tuple(value, arguments)
    if origin is not None and isinstance(origin, type) and issubclass(origin, Mapping):
        key, item = arguments
        return isinstance(value, Mapping) and all(_is(k, key) and _is(v, item) for k, v in value.items())
    return _is_plain(value, hint)


def _is_tuple(value: Any, arguments: tuple[Any, ...]) -> bool:
    if not isinstance(value, tuple):
        return False
    if len(arguments) == 2 and arguments[1] is Ellipsis:
        return all(_is(one, arguments[0]) for one in value)
    return len(value) == len(arguments) and all(map(_is, value, arguments))


def _is_plain(value: Any, hint: Any) -> bool:
    if is_dataclass(hint):
        if not isinstance(value, hint):  # type: ignore[arg-type]
            return False
        require_types(value)
        return True
    if hint in (int, float):
        kinds = (int,) if hint is int else (int, float)
        return isinstance(value, kinds) and not isinstance(value, bool) and abs(value) < math.inf
    if hint in (str, bool, type(None), Path):
        return isinstance(value, hint)
    return True
