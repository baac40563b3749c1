"""What a run on a GPU is started with, as far as it can be seen without one."""

from __future__ import annotations

from array import array
from pathlib import Path

import pytest
import torch
from tiny_models import TINY_MODELS
from transformers import TrainingArguments

from lplan.planner.plan import Schedule
from lplan.planner.recipe import Optimizer, Recipe
from lplan.planner.tracing.model import build, make_config, wrap
from lplan.trainer.batches import TokenDataset
from lplan.trainer.data.encoding import EncodedSet
from lplan.trainer.fit import visible_devices
from lplan.trainer.job import DeviceBudget, Job, TokenFile
from lplan.trainer.loading import on_the_device
from lplan.trainer.training import PlannedTrainer, training_arguments

ON_A_GPU = Recipe(device="cuda", kernel="flash", allocator="default", precision="bf16")


def job(recipe: Recipe, device: DeviceBudget | None = None) -> Job:
    return Job(
        model=None,
        config=TINY_MODELS["llama"],
        trust_remote_code=False,
        recipe=recipe,
        schedule=Schedule(max_steps=2, warmup_steps=0, learning_rate=1e-2),
        pad_token_id=0,
        checkpoint_steps=0,
        device=device,
    )


@pytest.mark.parametrize(
    ("seen", "first"),
    [({}, "0"), ({"CUDA_VISIBLE_DEVICES": "2,0"}, "2"), ({"CUDA_VISIBLE_DEVICES": "GPU-a"}, "GPU-a")],
)
def test_one_gpu_is_visible(seen: dict[str, str], first: str) -> None:
    assert visible_devices("cuda", seen)["CUDA_VISIBLE_DEVICES"] == first
    assert visible_devices("cpu", seen) == {"CUDA_VISIBLE_DEVICES": ""}


def test_a_jobs_device_survives_its_file(tmp_path: Path) -> None:
    written = job(ON_A_GPU, DeviceBudget(budget_bytes=8 << 30, context_bytes=150 << 20))
    written.write(tmp_path)
    assert Job.read(tmp_path) == written


@pytest.mark.parametrize(
    ("optimizer", "expected"),
    [
        ("adamw", "adamw_torch"),
        ("paged-adamw-8bit", "paged_adamw_8bit"),
        ("lion", "lion_32bit"),
        ("sgd-momentum", "sgd"),
    ],
)
def test_the_trainer_gets_the_recipes_optimizer(optimizer: Optimizer, expected: str, tmp_path: Path) -> None:
    recipe = Recipe(device="cuda", kernel="flash", allocator="default", optimizer=optimizer)
    arguments = training_arguments(job(recipe), str(tmp_path))
    assert isinstance(arguments, TrainingArguments)
    assert arguments.optim == expected
    assert arguments.optim_args == ("momentum=0.9" if optimizer == "sgd-momentum" else None)
    assert not arguments.use_cpu


@pytest.mark.parametrize(
    ("quantization", "kind", "double"), [("nf4", "nf4", False), ("nf4-dq", "nf4", True), ("int8", None, None)]
)
def test_weights_are_packed_on_loading(quantization: str, kind: str | None, double: bool | None) -> None:
    recipe = Recipe.from_dict({**ON_A_GPU.to_dict(), "method": "qlora", "quantization": quantization})
    found = on_the_device(recipe)
    packing = found["quantization_config"]
    assert found["device_map"] == {"": 0}
    assert packing.load_in_8bit is (kind is None)
    if kind is not None:
        assert (packing.bnb_4bit_quant_type, packing.bnb_4bit_use_double_quant) == (kind, double)
        assert packing.bnb_4bit_compute_dtype == torch.bfloat16


def test_scaled_gradients_train_alike(tmp_path: Path) -> None:
    """A gradient scaler (fp16's) changes nothing but the range: gradients are unscaled before they are clipped."""
    ids = array("i", [(7 * i) % 200 + 1 for i in range(8 * 12)])
    TokenFile(tmp_path, "train").write(
        EncodedSet(
            ids=ids,
            marks=bytearray([1] * len(ids)),
            offsets=array("q", range(0, 97, 12)),
            truncated=0,
            dropped=0,
        )
    )
    plain, scaled = (
        _trained(tmp_path, scaler) for scaler in (None, torch.amp.GradScaler("cpu", init_scale=2.0**12))
    )
    assert any(bool(after.any()) for name, after in plain.items() if "lora_B" in name)
    for name, after in plain.items():
        torch.testing.assert_close(scaled[name], after, rtol=1e-4, atol=1e-6)


def _trained(folder: Path, scaler: torch.amp.GradScaler | None) -> dict[str, torch.Tensor]:
    recipe = Recipe(precision="fp32", dropout=0.0, accumulation=1)
    torch.manual_seed(0)
    model = wrap(build(make_config(TINY_MODELS["llama"]), recipe), recipe)
    trainer = PlannedTrainer(job(recipe), model, str(folder), TokenDataset(TokenFile(folder, "train")), None)
    trainer.accelerator.scaler = scaler
    trainer.train()
    return {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}
