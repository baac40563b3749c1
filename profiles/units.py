"""Sizes: parsed once, at the border; formatted once, at the border; bytes in between."""

from __future__ import annotations

import math
import re

from .errors import UsageError

KIB, MIB, GIB = 2**10, 2**20, 2**30

_BINARY = {"": 1, "k": KIB, "m": MIB, "g": GIB, "t": 2**40}
_DECIMAL = {"k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_SIZE = re.compile(
    r"\s*(?P<number>\d+(?:\.\d+)?|\.\d+)\s*(?P<prefix>[kmgt]?)(?P<unit>ib|b|)\s*", re.IGNORECASE
)


def parse_size(text: str) -> int:
    """Bytes of a size as people write it: "8G" and "8GiB" are 8 * 2**30, "8GB" is 8 * 10**9.

    Raises UsageError for anything that is not a positive size.
    """
    match = _SIZE.fullmatch(text)
    if match is None:
        raise UsageError(f"{text!r} is not a size", hint="write 8G or 8GiB (2**30 bytes each) or 8GB (10**9)")
    prefix, unit = match["prefix"].lower(), match["unit"].lower()
    scale = _DECIMAL[prefix] if unit == "b" and prefix else _BINARY[prefix]
    size = float(match["number"]) * scale
    if not math.isfinite(size) or int(size) < 1:
        raise UsageError(f"{text!r} is not a positive size", hint="write 8G or 512M")
    return int(size)


def format_size(size_bytes: int) -> str:
    """GiB with two decimals, and says so; below 0.1 GiB in MiB."""
    if abs(size_bytes) < GIB // 10:
        return f"{size_bytes / MIB:.1f} MiB"
    return f"{size_bytes / GIB:.2f} GiB"


def gib(size_bytes: int) -> str:
    """The bare number of `format_size`'s GiB, for table columns whose head says GiB."""
    return f"{size_bytes / GIB:.2f}"
