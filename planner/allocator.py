"""The environment that a worker is started with: how memory is given back, and how many threads compute."""

from __future__ import annotations

from .recipe import Allocator

_PINNED_THRESHOLD_BYTES = 128 * 1024
"""glibc's own starting value; setting it stops the growth that keeps freed activations in the heap."""


def environment_of(allocator: Allocator, *, threads: int) -> dict[str, str]:
    """Variables for the worker's environment (mallopt(3), docs/memory-model.md)."""
    environment = {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    if allocator == "pinned":
        threshold = str(_PINNED_THRESHOLD_BYTES)
        environment |= {"MALLOC_MMAP_THRESHOLD_": threshold, "MALLOC_TRIM_THRESHOLD_": threshold}
    if allocator == "expandable":
        environment["PYTORCH_ALLOC_CONF"] = "expandable_segments:True"
    return environment
