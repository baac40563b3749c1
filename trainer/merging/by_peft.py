"""What PEFT's own `merge_and_unload` is for: adapters whose formula is not ours, with the whole model in memory."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from ...profiles.checkpoint import SAFETENSORS, weight_names
from ...profiles.errors import UsageError, first_line
from ...profiles.units import MIB
from ..evaluation.adapters import WEIGHTS, with_adapter
from ..evaluation.answering import load_plain
from .files import INDEX, places

_SHARD_BYTES = 512 * MIB
_MATRICES = 4
"""In fp32, the largest weight's: the update, its scaled copy, both ends of the sum (peft/tuners/lora/layer.py)."""


def peak_by_peft(base: Path, adapter: Path, *, libraries_bytes: int) -> int:
    """The model, the adapter as read and as put on, the temporaries of the largest weight, a shard to be written."""
    weights_bytes = sum(file.stat().st_size for file in weight_names(base, SAFETENSORS))
    largest = max(math.prod(place.shape) for place in places(base).values())
    return (
        libraries_bytes
        + weights_bytes
        + 2 * (adapter / WEIGHTS).stat().st_size
        + _MATRICES * 4 * largest
        + min(weights_bytes, _SHARD_BYTES)
    )


def merge_by_peft(base: Path, adapter: Path, output: Path) -> None:
    """Write the merged model into a folder that has the base's other files. Raises UsageError where PEFT refuses."""
    model: Any = with_adapter(load_plain(base), adapter)
    try:
        merged = model.merge_and_unload()
    except Exception as error:
        raise UsageError(
            f"PEFT cannot merge this adapter: {first_line(error)}", hint="load base and adapter together"
        ) from error
    for stale in (output / INDEX, output / SAFETENSORS):
        stale.unlink(missing_ok=True)
    merged.save_pretrained(output, max_shard_size=_SHARD_BYTES)
