"""Every request to PyTorch's allocator with the Python line that made it, as PyTorch records them."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

_MOST = 400_000
_FRAMES = 5


@contextmanager
def recorded(path: str | None) -> Iterator[None]:
    """Keeps the requests made in this context in a gzipped JSON file; nothing where there is no path."""
    if path is None:
        yield
        return
    torch.cuda.memory._record_memory_history(context="alloc", stacks="python", max_entries=_MOST)
    yield
    trace = torch.cuda.memory._snapshot()["device_traces"][0]
    with gzip.open(path, "wt") as file:
        json.dump([_entry(entry) for entry in trace], file)


def _entry(entry: Mapping[str, Any]) -> list[Any]:
    frames = [f"{f['filename'].split('/')[-1]}:{f['line']} {f['name']}" for f in entry.get("frames", ())]
    return [entry["action"], entry["addr"], entry["size"], frames[:_FRAMES]]
