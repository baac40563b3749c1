"""What a worker holds now, for trackers that draw it beside the loss."""

from __future__ import annotations

import torch

from ..profiles.units import GIB
from .process_tree import usage_of


def memory_gib() -> dict[str, float]:
    """GiB by name: resident and anonymous memory, and of a GPU what is allocated and reserved."""
    usage = usage_of("self")
    sizes = {"rss": usage.rss_bytes, "anonymous": usage.anonymous_bytes} if usage is not None else {}
    if torch.cuda.is_available():
        sizes |= {
            "gpu_allocated": torch.cuda.memory_allocated(),
            "gpu_reserved": torch.cuda.memory_reserved(),
        }
    return {f"memory_{name}_gib": round(size / GIB, 4) for name, size in sizes.items()}
