"""Access tokens in what libraries say: never shown, never written down."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

_NAMES = re.compile(r"(TOKEN|API_KEY|SECRET|PASSWORD)$")
_SHAPES = re.compile(r"\bhf_\w{8,}|(?<=\bBearer )\S+|(?<=://)[^/\s:@]+:[^/\s@]+(?=@)")
_SHORTEST = 8
"""Letters of a value that is a secret and no word."""
_HIDDEN = "***"


def redacted(text: str, environment: Mapping[str, str] = os.environ) -> str:
    """The text without the values of the environment's tokens and keys, and without what looks like one."""
    for name, value in environment.items():
        if len(value) >= _SHORTEST and _NAMES.search(name):
            text = text.replace(value, _HIDDEN)
    return _SHAPES.sub(_HIDDEN, text)
