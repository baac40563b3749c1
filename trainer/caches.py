"""What a worker holds and does not need: freed between two steps when its parent asks for it."""

from __future__ import annotations

import ctypes
import gc
import sys

from ..profiles.units import format_size
from .process_tree import usage_of


def free_caches() -> str:
    """Give back what allocators keep (malloc_trim(3), torch.cuda.empty_cache); a sentence that says how much."""
    import torch

    before_bytes = _held_bytes()
    gc.collect()
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # musl has none
        if trim is not None:
            trim(0)
    text = f"caches are freed: {format_size(max(0, before_bytes - _held_bytes()))} of the process"
    if torch.cuda.is_available():
        reserved_bytes = torch.cuda.memory_reserved()
        torch.cuda.empty_cache()
        text += f", {format_size(reserved_bytes - torch.cuda.memory_reserved())} of the GPU"
    return text


def _held_bytes() -> int:
    usage = usage_of("self")
    return 0 if usage is None else usage.anonymous_bytes
