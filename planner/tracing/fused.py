"""A stand-in for Liger's fused linear cross entropy: the same storages, without the package or a GPU."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

HEAD_OP = "lplan::head"
"""Some rows of logits, with the arithmetic of `products` matrix products over all hidden states."""
_library = torch.library.Library("lplan", "DEF")
_library.define("head(Tensor hidden, Tensor weight, int products, int rows) -> Tensor")
_library.impl(
    "head",
    lambda hidden, weight, _products, rows: hidden.new_empty(rows, weight.shape[0]),
    "CompositeExplicitAutograd",
)


def fused_loss(hidden: Tensor, weight: Tensor, chunk: int) -> Tensor:
    """The summed loss of hidden states (B * S, H) under a head (V, H), from `chunk` rows of logits at a time."""
    return _FusedLoss.apply(hidden, weight, chunk)  # type: ignore[no-any-return]


class _FusedLoss(torch.autograd.Function):
    """LigerFusedLinearCrossEntropyFunction (liger_kernel/ops/fused_linear_cross_entropy.py): gradients are made in the
    forward pass, in place of a chunk's logits, and kept.

    Two chunks stand for all: where products have no place given, the next one's logits are made before the last one's
    are let go. The second carries the arithmetic of all rows.
    """

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, chunk: int) -> Tensor:
        backward, trained = ctx.needs_input_grad[:2]
        grad_hidden = torch.zeros_like(hidden)
        grad_weight = torch.zeros_like(weight) if trained else None
        losses = torch.zeros(hidden.shape[0], dtype=torch.float32, device=hidden.device)
        last = _logits(hidden, weight, 0, chunk)
        logits = _logits(hidden, weight, 1 + backward + trained, chunk)
        del last
        if backward:
            rows = logits.new_empty(chunk, hidden.shape[1])
            del rows
        if grad_weight is not None:
            grad_weight += torch.empty_like(grad_weight, dtype=logits.dtype).float()
        ctx.save_for_backward(grad_hidden, grad_weight)
        return losses.sum()

    @staticmethod
    def backward(ctx: Any, _gradient: Tensor) -> tuple[Tensor, Tensor | None, None]:
        grad_hidden, grad_weight = ctx.saved_tensors
        return grad_hidden, grad_weight, None


def _logits(hidden: Tensor, weight: Tensor, products: int, rows: int) -> Tensor:
    """Autocast casts the weight for every product, and keeps no copy of a transposed one."""
    dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else hidden.dtype
    return torch.ops.lplan.head(hidden.to(dtype), weight.to(dtype), products, rows)  # type: ignore[no-any-return]
