"""Exported scripts over a quantized base, with the real libraries: bitsandbytes has a CPU backend, torchao is for CPUs.

What a script takes otherwise than planned is seen on its model, and is what the export says.
"""

from __future__ import annotations

from dataclasses import replace

import made_up
import pytest
import torch
from exported_scripts import LINEARS, SMALL, export, make_pretrained, run, write_dialogues

from lplan.planner.recipe import Recipe

PLAIN = {"device": "cuda", "kernel": "flash", "allocator": "default"}
GPU = {**PLAIN, "method": "qlora"}
FOUR_BITS = {
    "prepared": Recipe(**SMALL, **GPU, quantization="nf4", precision="bf16"),
    "in autocast": Recipe(
        **SMALL, **GPU, quantization="nf4-dq", precision="bf16-amp", kbit_preparation=False,
        optimizer="paged-adamw-8bit",
    ),
    "recomputed": Recipe(
        **SMALL, **GPU, quantization="nf4-dq", precision="bf16-amp", loss="chunked", checkpointing="full",
        input_casting=False,
    ),
    "16-bit adapters": Recipe(
        **SMALL, **GPU, quantization="fp4", precision="bf16", kbit_preparation=False, adapter_dtype="base",
    ),
}  # fmt: skip
EIGHT_BITS = {
    "in autocast": Recipe(**SMALL, **GPU, quantization="int8", precision="bf16-amp", kbit_preparation=False),
    "prepared": Recipe(**SMALL, **GPU, quantization="int8", precision="fp16-amp"),
}
ON_A_CPU = {
    "in autocast": Recipe(**SMALL, method="qlora", quantization="int8", precision="bf16-amp"),
    "recomputed": Recipe(
        **SMALL, method="qlora", quantization="int8", precision="bf16", loss="chunked", checkpointing="full",
        input_casting=False,
    ),
}  # fmt: skip
both_scripts = pytest.mark.parametrize("target", ["hf-script", "sft-script"])


def each(recipes):
    return pytest.mark.parametrize("recipe", recipes.values(), ids=list(recipes))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_pretrained(tmp_path_factory.mktemp("quantized") / "tiny")


@pytest.fixture
def ran(folder, tmp_path, monkeypatch):
    """Exports a plan and runs the script; the Trainer's run, and what the export says it takes otherwise."""
    made_up.install(monkeypatch, tmp_path / "cache")
    write_dialogues(tmp_path / "train.jsonl")
    monkeypatch.chdir(tmp_path)

    def go(recipe, target):
        if target == "sft-script":
            pytest.importorskip("trl")
        exported = export(recipe, target, folder)
        path = tmp_path / "train.py"
        # transformers looks for the GPU before it takes bf16
        path.write_text(exported.text.replace("'use_cpu': False", "'use_cpu': True"))
        return run(path, recipe, "out", monkeypatch), exported.unsaid

    return go


def learns(ran):
    """Every adapter moved away from where it starts, B from zeros."""
    assert len(ran.losses) == 2
    changed = [p.any().item() for name, p in ran.trainer.model.named_parameters() if ".lora_B." in name]
    assert changed
    assert all(changed)


def packed(model, kind):
    """The base's linears of a class, without PEFT's wrappers, and the head's own class."""
    head = model.get_base_model().get_output_embeddings()
    assert type(head) is torch.nn.Linear
    return [module for module in model.modules() if type(module) is kind]


def agrees_with(unsaid, recipe, model):
    """Dtypes of adapters and of what is not quantized are the plan's, but for what the export says."""
    base = getattr(torch, recipe.weights_dtype)
    cast, prepared = recipe.adapter_dtype == "fp32", recipe.kbit_preparation
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            planned = torch.float32 if cast else base
            # TRL has them in bf16, which is told as the base's dtype
            expected = torch.bfloat16 if "adapter_dtype" in unsaid else planned
            assert parameter.dtype == expected, name
        elif "norm" in name:
            assert parameter.dtype == (
                torch.float32 if prepared != ("kbit_preparation" in unsaid) else base
            ), name


@both_scripts
@each(FOUR_BITS)
def test_four_bits_by_bitsandbytes(ran, recipe, target):
    linears = pytest.importorskip("bitsandbytes").nn
    done, unsaid = ran(recipe, target)
    learns(done)
    model = done.trainer.model
    found = packed(model, linears.Linear4bit)
    assert len(found) == LINEARS
    for linear in found:
        state = linear.weight.quant_state
        assert (state.quant_type, state.nested) == (
            recipe.quantization[:3],
            recipe.quantization.endswith("-dq"),
        )
        assert linear.compute_dtype == getattr(torch, recipe.weights_dtype)
    if recipe.optimizer == "paged-adamw-8bit":
        optimizer = done.trainer.optimizer.optimizer
        assert (optimizer.is_paged, optimizer.args.optim_bits) == (True, 8)
    agrees_with(unsaid, recipe, model)


@both_scripts
@each(EIGHT_BITS)
def test_eight_bits_by_bitsandbytes(ran, recipe, target):
    linears = pytest.importorskip("bitsandbytes").nn
    done, unsaid = ran(recipe, target)
    learns(done)
    assert len(packed(done.trainer.model, linears.Linear8bitLt)) == LINEARS
    agrees_with(unsaid, recipe, done.trainer.model)


@both_scripts
@each(ON_A_CPU)
def test_int8_by_torchao_on_a_cpu(ran, recipe, target):
    quantization = pytest.importorskip("torchao.quantization")
    done, unsaid = ran(recipe, target)
    learns(done)
    model = done.trainer.model
    weights = [m.weight for m in packed(model, torch.nn.Linear) if type(m.weight) is quantization.Int8Tensor]
    assert len(weights) == LINEARS
    assert {weight.qdata.dtype for weight in weights} == {torch.int8}
    # k-bit preparation casts nothing over torchao's weights (tests/planner/test_int8_on_cpu.py)
    agrees_with(
        {**unsaid, "kbit_preparation": "casts nothing"}, replace(recipe, kbit_preparation=True), model
    )


@pytest.mark.parametrize(
    ("recipe", "packages"),
    [
        (FOUR_BITS["prepared"], "bitsandbytes"),
        (ON_A_CPU["recomputed"], "torchao"),
        (Recipe(**SMALL, **PLAIN, optimizer="adamw-8bit", attention="flash"), "bitsandbytes flash-attn"),
        (Recipe(**SMALL, **PLAIN, loss="fused"), "liger-kernel"),
    ],
    ids=["4 bits", "torchao", "optimizer and attention", "loss"],
)  # fmt: skip
@both_scripts
def test_a_script_names_the_packages_that_it_needs(recipe, packages, target, folder, tmp_path, monkeypatch):
    made_up.install(monkeypatch, tmp_path)
    (line,) = [line for line in export(recipe, target, folder).text.splitlines() if "pip install" in line]
    assert line.endswith(f" {packages}")
