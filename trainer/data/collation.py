"""Encoded samples as one batch of tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ...profiles.errors import UsageError
from .encoding import IGNORED, Encoded

if TYPE_CHECKING:
    from torch import Tensor


def collate(samples: Sequence[Encoded], pad_token_id: int, *, pad_to: int | None = None) -> dict[str, Tensor]:
    """input_ids, labels and, only where something is padded, attention_mask; all (B, S) int64.

    S is the longest sample's length, or `pad_to`. Padding is on the right and carries no loss. Without
    padding the mask is left out, so that attention takes its causal path, which materialises no mask.
    Raises UsageError when a sample is longer than `pad_to`.
    """
    import torch

    longest = max(len(sample.input_ids) for sample in samples)
    width = longest if pad_to is None else pad_to
    if longest > width:
        raise UsageError(f"a sample of {longest} tokens can't be padded to {width}", hint="truncate it first")

    def padded(rows: Sequence[Sequence[int]], filler: int) -> Tensor:
        return torch.tensor([[*row, *[filler] * (width - len(row))] for row in rows])

    batch = {
        "input_ids": padded([s.input_ids for s in samples], pad_token_id),
        "labels": padded([s.labels for s in samples], IGNORED),
    }
    if any(len(s.input_ids) < width for s in samples):
        batch["attention_mask"] = padded([[1] * len(s.input_ids) for s in samples], 0)
    return batch
