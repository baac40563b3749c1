"""Packed sequences learn what they learn alone, or are refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tiny_models import TINY_MODELS, real_peaks, traced_peaks

from lplan.planner.polynomial import Shape
from lplan.planner.recipe import Recipe
from lplan.planner.tracing.model import build, make_config
from lplan.planner.tracing.objective import IGNORED, Objective
from lplan.planner.tracing.trace import trace
from lplan.profiles.errors import UsageError
from lplan.trainer.batches import Collator, Packer

LENGTHS = (7, 12, 90)
"""The last one longer than the windows of 64."""
ACROSS = ("bloom", "falcon", "opt")
"""They compute positions from the padding mask, or build masks of their own."""
APART = [name for name in TINY_MODELS if name not in ACROSS]


def samples() -> list[tuple[torch.Tensor, torch.Tensor]]:
    torch.manual_seed(1)
    rows = [torch.randint(3, 250, (length,)) for length in LENGTHS]
    return [(row, torch.where(torch.arange(len(row)) >= 3, row, IGNORED)) for row in rows]


def learned(model: torch.nn.Module, batches: list[dict[str, Any]], loss: Any) -> tuple[float, torch.Tensor]:
    model.zero_grad()
    items, total = torch.tensor(sum(length - 3 for length in LENGTHS)), 0.0
    for batch in batches:
        value = Objective(loss)(model, batch, items)
        value.backward()
        total += value.item()
    return total, torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


@pytest.mark.parametrize(
    ("name", "attention", "loss"),
    [
        *((name, "sdpa", "full") for name in APART),
        ("llama", "eager", "full"),
        ("llama", "sdpa", "supervised"),
    ],
)
def test_packed_sequences_learn_what_they_learn_alone(name: str, attention: Any, loss: Any) -> None:
    recipe = Recipe(precision="fp32", method="full", attention=attention, padding="packed")
    torch.manual_seed(0)
    model = build(make_config(TINY_MODELS[name]), recipe).eval()
    alone = learned(model, [Collator(0, loss)([sample]) for sample in samples()], loss)
    packed = learned(model, [Packer(0, loss, 16)(samples())], loss)
    assert packed[0] == pytest.approx(alone[0], rel=1e-5)
    assert (packed[1] - alone[1]).abs().max() <= 1e-5 * alone[1].abs().max()


@pytest.mark.parametrize("name", ACROSS)
def test_a_model_that_would_train_across_boundaries_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="packed sequences apart"):
        trace(
            TINY_MODELS[name], Recipe(padding="packed").graph(), Shape(batch=1, seq=48, supervised=9, chunk=9)
        )


def test_a_state_passes_every_boundary() -> None:
    mamba = {
        "model_type": "mamba",
        "hidden_size": 32,
        "state_size": 4,
        "num_hidden_layers": 2,
        "vocab_size": 99,
    }
    with pytest.raises(UsageError, match="packed sequences apart"):
        trace(
            mamba,
            Recipe(padding="packed", method="full").graph(),
            Shape(batch=1, seq=48, supervised=9, chunk=9),
        )


@pytest.mark.parametrize("knobs", [{}, {"attention": "eager"}, {"loss": "supervised"}], ids=str)
@pytest.mark.parametrize("name", ["llama", "gpt2", "gemma3_text"])
def test_the_trace_of_a_packed_row_is_the_real_step(name: str, knobs: dict[str, Any]) -> None:
    recipe, shape = Recipe(padding="packed", **knobs).graph(), Shape(batch=1, seq=96, supervised=40, chunk=32)
    assert traced_peaks(TINY_MODELS[name], recipe, shape) == real_peaks(TINY_MODELS[name], recipe, shape)


def test_a_row_is_padded_by_a_sequence_of_its_own() -> None:
    short = [(torch.tensor(ids), torch.tensor(ids)) for ids in ([5, 6, 7], [8, 9])]
    batch = Packer(2, "full", 4)(short)
    assert batch["input_ids"].tolist() == [[5, 6, 7, 8, 9, 2, 2, 2]]
    assert batch["position_ids"].tolist() == [[0, 1, 2, 0, 1, 0, 1, 2]]
    assert batch["labels"].tolist() == [[IGNORED, 6, 7, IGNORED, 9, IGNORED, IGNORED, IGNORED]]
