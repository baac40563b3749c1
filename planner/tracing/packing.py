"""Whether a model keeps packed sequences apart: what transformers' masks do, and what no mask can."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from ...profiles.errors import UsageError


@contextmanager
def kept_apart(model: nn.Module, padding: str) -> Iterator[None]:
    """Raises UsageError after a step on packed rows whose sequences saw each other.

    transformers finds the sequences of a row by their positions, and only for models that hand them to its mask
    functions (masking_utils.py, `_preprocess_mask_arguments`); a recurrent state passes every boundary.
    """
    if padding != "packed":
        yield
        return
    from transformers import masking_utils

    original = masking_utils.find_packed_sequence_indices
    asked: list[bool] = []

    def find(*args: Any, **kwargs: Any) -> Any:
        asked.append(True)
        return original(*args, **kwargs)

    masking_utils.find_packed_sequence_indices = find
    try:
        yield
    finally:
        masking_utils.find_packed_sequence_indices = original
    if not asked or any(_carries_state(module) for module in model.modules()):
        raise UsageError(
            "this model does not keep packed sequences apart: they would be trained across their boundaries",
            hint="take --padding padded",
        )


def _carries_state(module: nn.Module) -> bool:
    return isinstance(module, nn.Conv1d) or bool(getattr(module, "_is_stateful", False))
