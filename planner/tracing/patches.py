"""BLT's patches of bytes, whose number depends on what the bytes say: as many as there can be."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


def patch_every_token(model: nn.Module) -> None:
    """Makes every token of a traced BLT a patch, as an unsure patcher does. A trained one makes patches of some four
    bytes, so its global layers hold less. Where long patches are cut in pieces, nothing is changed."""
    for module in model.modules():
        if type(module).__name__ == "BltPatcher" and _cuts_nothing(model):
            vars(module)["patch_lengths_from_entropies"] = _one_each


def _cuts_nothing(model: nn.Module) -> bool:
    configs = (getattr(module, "config", None) for module in model.modules())
    return all(getattr(config, "max_patch_length", None) is None for config in configs)


def _one_each(
    entropies: Tensor, sequence_length: int, patch_size: int | None = None, threshold: float | None = None
) -> Tensor:
    """Tokens 0 and 1 begin patches, and so does each whose predecessor was hard to tell: the last patch is empty
    (modeling_blt.py, `patch_lengths_from_entropies`)."""
    del patch_size, threshold
    shape: Any = (entropies.shape[0], sequence_length + 1)
    return torch.empty(shape, dtype=torch.long, device=entropies.device)
