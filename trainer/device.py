"""A GPU as a run uses it: its ceiling, and what was used of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch


def hold_to(budget_bytes: int, context_bytes: int) -> None:
    """Make PyTorch's caching allocator fail, with its own message, before the process exceeds its budget.

    `context_bytes` are the driver's and the libraries', which the allocator does not count.
    """
    total_bytes = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(min(1.0, max(0, budget_bytes - context_bytes) / total_bytes))


def peak_since_last_asked(context_bytes: int) -> Callable[[], int]:
    """What this process held of its GPU at most, in bytes: reserved memory as measured, the context as planned."""

    def peak() -> int:
        reserved_bytes = torch.cuda.max_memory_reserved()
        torch.cuda.reset_peak_memory_stats()
        return reserved_bytes + context_bytes

    return peak


def memory_now() -> Mapping[str, int]:
    """Bytes of tensors on the GPU, and of what PyTorch's allocator keeps of it."""
    return {"allocated_bytes": torch.cuda.memory_allocated(), "reserved_bytes": torch.cuda.memory_reserved()}
