"""Rules of older versions, against what their sources say."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch
from torch import nn

from lplan.benchmarks import older
from lplan.planner.tracing.quantized import QuantizedLinear


@pytest.mark.parametrize("kept", [False, True])
def test_an_input_lives_as_long_as_the_graph_before_bitsandbytes_0_43_2(kept):
    """bitsandbytes #1270: `ctx.tensors = (A, B)`, an attribute that backward does not clear."""
    model = nn.Sequential(QuantizedLinear(nn.Linear(8, 8, bias=False), "nf4", torch.float32))
    if kept:
        older._RULES[older.KEPT_INPUTS](model)
    leaf = torch.ones(2, 8, requires_grad=True)
    between = leaf * 2
    alive = weakref.ref(between)
    loss = model(between).sum()
    del between
    assert (alive() is not None) == kept
    loss.backward()
    assert (alive() is not None) == kept
    del loss
    gc.collect()
    assert alive() is None


def test_a_fused_value_keeps_query_and_key():
    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.q_proj, self.k_proj, self.v_proj = nn.Linear(8, 8), nn.Linear(8, 2), nn.Linear(8, 2)

    attention = Attention()
    older._RULES[older.FUSED_QKV](attention)
    value = attention.v_proj(torch.ones(3, 8))
    assert value.shape == (3, 2)
    assert value.untyped_storage().nbytes() == 3 * (8 + 2 + 2) * 4
    value.sum().backward()
    assert attention.v_proj.bias.grad.tolist() == [3, 3]
