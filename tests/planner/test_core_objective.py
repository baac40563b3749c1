"""Three ways to the same loss, and what each holds of the logits."""

import pytest
import torch

from lplan.planner.recipe import Recipe
from lplan.planner.tracing.model import build, make_config, wrap
from lplan.planner.tracing.objective import IGNORED, Objective, supervised_positions

LLAMA = {
    "model_type": "llama", "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 97, "max_position_embeddings": 64,
}  # fmt: skip
CHUNK = 8


def model():
    torch.manual_seed(0)
    recipe = Recipe(precision="fp32", dropout=0.0)
    made = wrap(build(make_config(LLAMA), recipe), recipe)
    for name, parameter in made.named_parameters():
        if ".lora_B." in name:
            torch.nn.init.normal_(parameter, std=0.05)
    return made


def batch():
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(97, (3, 20), generator=generator)
    labels = ids.clone()
    labels[:, :9] = IGNORED
    mask = torch.ones_like(ids)
    mask[0, 15:], labels[0, 15:] = 0, IGNORED
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def loss_and_gradients(loss, items=None):
    made = model()
    value = Objective(loss, CHUNK)(made, batch(), items)
    value.backward()
    return value.item(), torch.cat([p.grad.flatten() for p in made.parameters() if p.grad is not None])


@pytest.mark.parametrize("loss", ["supervised", "chunked"])
@pytest.mark.parametrize("items", [None, 57])
def test_all_paths_give_the_same_loss_and_gradients(loss, items):
    expected, gradients = loss_and_gradients("full", items)
    value, others = loss_and_gradients(loss, items)
    assert value == pytest.approx(expected, rel=1e-5)
    assert torch.allclose(others, gradients, atol=1e-6, rtol=1e-4)


def test_positions_are_those_that_predict_supervised_tokens():
    labels = torch.tensor([[IGNORED, IGNORED, 7, 8], [IGNORED, 5, IGNORED, IGNORED]])
    positions, targets = supervised_positions(labels)
    assert positions.tolist() == [1, 2, 4]
    assert targets.tolist() == [7, 8, 5]


def test_the_chunked_path_never_holds_more_than_a_chunk_of_logits():
    made, seen = model(), []
    head = made.get_output_embeddings()
    head.register_forward_hook(lambda _m, _a, output: seen.append(output.shape[:-1].numel()))
    Objective("chunked", CHUNK)(made, batch()).backward()
    assert max(seen) <= CHUNK


def test_adapters_that_cast_their_weights_agree_with_casting_inputs():
    def run(input_casting):
        torch.manual_seed(0)
        recipe = Recipe(dropout=0.0, input_casting=input_casting)
        made = wrap(build(make_config(LLAMA), recipe), recipe)
        torch.manual_seed(3)
        for name, parameter in made.named_parameters():
            if ".lora_" in name:
                torch.nn.init.normal_(parameter, std=0.05)
        Objective("full")(made, batch()).backward()
        return {n: p.grad for n, p in made.named_parameters() if p.grad is not None}

    cast, uncast = run(True), run(False)
    assert cast.keys() == uncast.keys()
    for name, gradient in cast.items():
        assert gradient.dtype == uncast[name].dtype == torch.float32
        bound = 0.05 * gradient.abs().max().item()
        assert (gradient - uncast[name]).abs().max().item() <= bound, name
