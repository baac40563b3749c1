"""Dropout on a GPU is one kernel that keeps a byte an element (ATen/native/Dropout.cpp), and no noise."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from lplan.planner.estimating import shape_of
from lplan.planner.recipe import Recipe
from lplan.planner.tracing.cuda import cuda_dropout
from lplan.planner.tracing.trace import trace

CONFIG = {
    "model_type": "llama", "hidden_size": 128, "intermediate_size": 352, "num_hidden_layers": 4,
    "num_attention_heads": 4, "num_key_value_heads": 4, "vocab_size": 4000,
}  # fmt: skip


@pytest.mark.parametrize(("p", "training", "kept_bytes"), [(0.1, True, 1), (0.1, False, 0), (0.0, True, 0)])
def test_what_waits_for_backward(p: float, training: bool, kept_bytes: int) -> None:
    kept: list[Tensor] = []
    hidden = torch.empty(8, 128, device="meta", requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        cuda_dropout(F.dropout)(hidden, p, training)
    assert sum(tensor.nbytes for tensor in kept) == kept_bytes * hidden.numel()


def test_a_mask_for_every_adapted_linear() -> None:
    """Without checkpoints, at the loss: masks of q, k, v and o, a byte for each of their inputs' elements, but where
    that input has no gradient: q, k and v of the first layer. PEFT's fp32 copies are dropped ones then, no more."""
    peaks = []
    for dropout in (0.0, 0.1):
        recipe = Recipe(
            device="cuda", kernel="efficient", allocator="default", dropout=dropout, accumulation=1, batch_size=2,
            seq_len=512, supervised_len=512, padding="none",
        )  # fmt: skip
        shape = shape_of(recipe)
        peaks.append(trace(CONFIG, recipe, shape).peak("steady step", shape)["activations"])
    tokens, width, masks = 2 * 512, 128, 4 * 4 - 3
    assert peaks[1] - peaks[0] == tokens * width * masks
