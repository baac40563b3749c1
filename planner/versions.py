"""Which versions an answer was made with. Reads metadata; imports nothing."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version

STACK = ("torch", "transformers", "peft", "accelerate")


@cache
def stack_versions() -> Mapping[str, str]:
    """Installed versions of lplan and of the libraries whose graphs it traces."""
    return {name: _version(name) for name in ("lplan", *STACK)}


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "missing"
