"""A GPU as a run uses it: its ceiling, and what was used of it."""

from __future__ import annotations

import os
from collections.abc import Mapping

import torch

from .gauges import held_of_gpu
from .job import DeviceBudget


class HeldDevice:
    """Makes PyTorch's caching allocator fail, with its own message, before the process exceeds its budget.

    What the driver and the libraries take besides grows as kernels are loaded: it is asked for again after every phase,
    and taken as planned where the driver does not tell.
    """

    def __init__(self, device: DeviceBudget) -> None:
        self.budget_bytes, self.context_bytes = device.budget_bytes, device.context_bytes
        self._hold()

    def peak_since_last_asked(self) -> int:
        """What this process held of its GPU at most, in bytes."""
        reserved_bytes = torch.cuda.max_memory_reserved()
        torch.cuda.reset_peak_memory_stats()
        held_bytes = held_of_gpu({os.getpid()})
        if held_bytes:
            self.context_bytes = max(0, held_bytes - torch.cuda.memory_reserved())
            self._hold()
        return reserved_bytes + self.context_bytes

    def _hold(self) -> None:
        total_bytes = torch.cuda.get_device_properties(0).total_memory
        room_bytes = max(0, self.budget_bytes - self.context_bytes)
        torch.cuda.set_per_process_memory_fraction(min(1.0, room_bytes / total_bytes))


def memory_now() -> Mapping[str, int]:
    """Bytes of tensors on the GPU, and of what PyTorch's allocator keeps of it."""
    return {"allocated_bytes": torch.cuda.memory_allocated(), "reserved_bytes": torch.cuda.memory_reserved()}
