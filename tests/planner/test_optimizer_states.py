"""What bitsandbytes' optimizers keep, by the rules of its code (bitsandbytes/optim/optimizer.py) and of the Trainer."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tiny_models import TINY_MODELS, make_model
from torch import Tensor, nn

from lplan.planner.recipe import Recipe
from lplan.planner.tracing.optimizers import make_optimizer

LARGE, MIDDLE, SMALL, EMBEDDED = 512 * 512, 128 * 128, 32 * 32, 1000 * 128
"""Above the 100,000 elements that are paged, above the 4,096 that are kept in 8 bits, below both."""


def kept_bytes(optimizer: str, loop: Any = "trainer") -> dict[int, int]:
    """States on the device after a step, by elements of the parameter."""
    with torch.device("meta"):
        linears = [nn.Linear(width, width, bias=False, dtype=torch.bfloat16) for width in (512, 128, 32)]
        model = nn.ModuleList([*linears, nn.Embedding(1000, 128, dtype=torch.bfloat16)])
    recipe = Recipe(
        method="full", device="cuda", kernel="efficient", allocator="default", optimizer=optimizer, loop=loop
    )  # type: ignore[arg-type]
    made = make_optimizer(model, recipe)
    for parameter in model.parameters():
        parameter.grad = torch.empty_like(parameter)
    made.step()
    return {
        parameter.numel(): sum(s.nbytes for s in made.state[parameter].values() if isinstance(s, Tensor))
        for parameter in model.parameters()
    }


@pytest.mark.parametrize(
    ("optimizer", "loop", "expected"),
    [
        # Two states of a byte each, an fp32 scale for each of their blocks of 256; fp32 where small.
        ("adamw-8bit", "plain", {LARGE: 2, MIDDLE: 2, SMALL: 8, EMBEDDED: 2}),
        # The Trainer registers embeddings for 32 bits.
        ("adamw-8bit", "trainer", {LARGE: 2, MIDDLE: 2, SMALL: 8, EMBEDDED: 8}),
        ("paged-adamw", "trainer", {LARGE: 0, MIDDLE: 8, SMALL: 8, EMBEDDED: 0}),
        ("paged-adamw-8bit", "plain", {LARGE: 0, MIDDLE: 2, SMALL: 8, EMBEDDED: 0}),
        ("paged-adamw-8bit", "trainer", {LARGE: 0, MIDDLE: 2, SMALL: 8, EMBEDDED: 0}),
        ("lion", "trainer", {LARGE: 4, MIDDLE: 4, SMALL: 4, EMBEDDED: 4}),
    ],
)
def test_states_on_the_device(optimizer: str, loop: str, expected: dict[int, int]) -> None:
    in_blocks = {
        elements: elements * size
        + (2 * 4 * elements // 256 if _has_scales(optimizer, loop, elements, size) else 0)
        for elements, size in expected.items()
    }
    assert kept_bytes(optimizer, loop) == in_blocks


def _has_scales(optimizer: str, loop: str, elements: int, size: int) -> bool:
    """Scales are never paged; a state in 32 bits has none."""
    wide = size == 8 or (loop == "trainer" and elements == EMBEDDED)
    return optimizer.endswith("8bit") and not wide


@pytest.mark.parametrize("loop", ["trainer", "plain"])
@pytest.mark.parametrize("name", ["llama", "phi", "gpt2"])
def test_the_groups_of_the_trainer(name: str, loop: Any) -> None:
    """Norms under several names, biases, LayerNorm."""
    from transformers import Trainer

    recipe = Recipe(method="full", optimizer="adafactor", loop=loop)
    model = make_model(TINY_MODELS[name], recipe, "meta")
    decayed = set(Trainer.get_decay_parameter_names(None, model))
    named = dict(model.named_parameters())
    first = [p for n, p in named.items() if n in decayed]
    expected = [first, [p for n, p in named.items() if n not in decayed]]
    if loop == "plain":
        expected = [list(named.values())]
    found = [group["params"] for group in make_optimizer(model, recipe).param_groups]
    assert [[id(p) for p in group] for group in found] == [[id(p) for p in group] for group in expected]
    assert all(expected)
