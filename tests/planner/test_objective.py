"""Three ways to the same loss, and what each of them holds of the logits."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tiny_models import TINY_MODELS, VOCABULARY, make_model
from torch import Tensor, nn

from lplan.planner.polynomial import Shape
from lplan.planner.recipe import Loss, Recipe
from lplan.planner.tracing.objective import IGNORED, Objective, output_head, supervised_positions
from lplan.planner.tracing.step import TracedStep
from lplan.planner.tracing.tracker import StorageTracker

CHUNK = 8
FP32 = Recipe(precision="fp32", dropout=0.0)


def trained_a_little(name: str) -> nn.Module:
    """Adapters that do something: PEFT starts with B at zero, where A has no gradient."""
    torch.manual_seed(0)
    model = make_model(TINY_MODELS[name], FP32)
    for parameter_name, parameter in model.named_parameters():
        if ".lora_B." in parameter_name:
            nn.init.normal_(parameter, std=0.05)
    return model


def padded_batch() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(1, VOCABULARY, (3, 20), generator=generator)
    labels, mask = ids.clone(), torch.ones_like(ids)
    labels[:, :9] = IGNORED
    labels[0, 15:], mask[0, 15:] = IGNORED, 0
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


SUPERVISED = 6 + 11 + 11
"""Tokens from the tenth on, of which the first row has six and the others eleven."""


def loss_and_gradients(name: str, loss: Loss, items: Any = None) -> tuple[float, dict[str, Tensor]]:
    model = trained_a_little(name)
    value = Objective(loss, CHUNK)(model, padded_batch(), items)
    value.backward()
    return value.item(), {n: p.grad for n, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("loss", ["supervised", "chunked"])
@pytest.mark.parametrize("name", ["llama", "gpt2", "opt"])
def test_all_paths_give_the_same_loss_and_gradients(name: str, loss: Loss) -> None:
    expected, gradients = loss_and_gradients(name, "full")
    value, others = loss_and_gradients(name, loss)
    assert value == pytest.approx(expected, rel=1e-5)
    assert others.keys() == gradients.keys()
    for parameter, gradient in gradients.items():
        assert gradient.abs().sum() > 0, parameter
        torch.testing.assert_close(others[parameter], gradient, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("loss", ["full", "supervised", "chunked"])
@pytest.mark.parametrize("items", [57, torch.tensor(57)], ids=["number", "tensor"])
def test_the_sum_is_shared_among_the_tokens_of_the_whole_step(loss: Loss, items: Any) -> None:
    mean, _ = loss_and_gradients("llama", loss)
    shared, _ = loss_and_gradients("llama", loss, items)
    assert shared == pytest.approx(mean * SUPERVISED / 57, rel=1e-5)


def test_the_loss_is_the_mean_negative_log_probability() -> None:
    model, batch = trained_a_little("llama"), padded_batch()
    with torch.no_grad():
        logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    log = logits.double().log_softmax(-1)
    told = [
        log[row, column - 1, batch["labels"][row, column]].item()
        for row in range(3)
        for column in range(1, 20)
        if batch["labels"][row, column] != IGNORED
    ]
    assert len(told) == SUPERVISED
    with torch.no_grad():
        assert Objective("chunked", CHUNK)(model, batch).item() == pytest.approx(
            -sum(told) / SUPERVISED, rel=1e-5
        )


def test_positions_are_those_that_predict_a_supervised_token() -> None:
    labels = torch.tensor([[IGNORED, IGNORED, 7, 8], [IGNORED, 5, IGNORED, IGNORED]])
    positions, targets = supervised_positions(labels)
    assert positions.tolist() == [1, 2, 4]
    assert targets.tolist() == [7, 8, 5]


def test_the_first_token_of_a_row_is_never_predicted() -> None:
    positions, _ = supervised_positions(torch.tensor([[3, 4], [5, 6]]))
    assert positions.tolist() == [0, 2]


def test_positions_that_were_prepared_are_used() -> None:
    model, batch = trained_a_little("llama"), padded_batch()
    labels = batch.pop("labels")
    positions, targets = supervised_positions(labels)
    with torch.no_grad():
        prepared = Objective("supervised")(model, {**batch, "positions": positions, "targets": targets})
        found = Objective("supervised")(model, {**batch, "labels": labels})
    assert prepared.item() == found.item()


def test_no_hook_stays_on_the_head() -> None:
    model = trained_a_little("llama")
    Objective("chunked", CHUNK)(model, padded_batch()).backward()
    head = output_head(model)
    assert not head._forward_pre_hooks
    assert not head._forward_hooks


def most_rows_of_logits(loss: Loss) -> int:
    """The largest storage a real step makes with the vocabulary as its last dimension, in rows."""
    config = {**TINY_MODELS["llama"], "vocab_size": 3001, "hidden_size": 32}
    shape = Shape(batch=3, seq=20, supervised=28, chunk=CHUNK)
    recipe = Recipe(precision="fp32", loss=loss, accumulation=1, padding="none")
    tracker = StorageTracker(mask_is_full=True)
    TracedStep(make_model(config, recipe), recipe, shape, tracker).run()
    of_logits = [s.size_bytes for s in tracker.storages if s.dimensions[-1:] == (3001,)]
    return max(of_logits) // (3001 * 4)


@pytest.mark.parametrize(("loss", "rows"), [("full", 3 * 20), ("supervised", 28), ("chunked", CHUNK)])
def test_how_many_rows_of_logits_exist_at_once(loss: Loss, rows: int) -> None:
    assert most_rows_of_logits(loss) == rows
