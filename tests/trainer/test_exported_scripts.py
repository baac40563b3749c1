"""Exported scripts do what they say: two real steps with the real libraries, on a tiny model."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import made_up
import pytest
from exported_scripts import SMALL, export, make_pretrained, run, write_dialogues

from lplan.planner.recipe import Recipe

RECIPE = Recipe(**SMALL, precision="fp32")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_pretrained(tmp_path_factory.mktemp("exported") / "tiny")


@pytest.fixture
def script(folder, tmp_path, monkeypatch):
    """Writes a plan as a script; with the data, in a folder of its own."""
    made_up.install(monkeypatch, tmp_path / "cache")

    def write(recipe, target="hf-script"):
        path = tmp_path / f"{recipe.loss}.py"
        path.write_text(export(recipe, target, folder).text)
        return path

    write_dialogues(tmp_path / "train.jsonl")
    monkeypatch.chdir(tmp_path)
    return write


def test_the_loss_paths_of_the_scripts_agree(script, monkeypatch, tmp_path):
    found = {}
    for loss in ("full", "supervised", "chunked"):
        recipe = replace(RECIPE, loss=loss, input_casting=loss != "chunked", checkpointing="every-2")
        found[loss] = run(script(recipe), recipe, f"out-{loss}", monkeypatch).losses
    assert len(found["full"]) == 2
    assert found["supervised"] == pytest.approx(found["full"], abs=2e-3)
    assert found["chunked"] == pytest.approx(found["full"], abs=2e-3)
    adapter = json.loads((tmp_path / "out-full" / "adapter_config.json").read_text())
    assert (adapter["r"], adapter["lora_alpha"], adapter["lora_dropout"]) == (4, 8, 0.0)
    assert set(adapter["target_modules"]) == {"self_attn.q_proj", "self_attn.v_proj"}


def test_a_script_starts_itself_with_the_plans_environment(script, tmp_path):
    path = script(replace(RECIPE, precision="bf16", input_casting=False, adapter_dtype="fp32"))
    ended = subprocess.run(
        [sys.executable, path.name, "train.jsonl", "out"], cwd=tmp_path, capture_output=True, text=True, check=False
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    assert "train_loss" in ended.stdout
    assert (tmp_path / "out" / "adapter_model.safetensors").is_file()


@pytest.mark.parametrize("target", ["hf-script", "sft-script"])
def test_a_whole_model_is_trained(script, monkeypatch, target):
    if target == "sft-script":
        pytest.importorskip("trl")
    recipe = replace(RECIPE, method="full", init="pretrained")
    ran = run(script(recipe, target), recipe, "out", monkeypatch)
    assert len(ran.losses) == 2
    assert all(parameter.requires_grad for parameter in ran.trainer.model.parameters())


def test_a_model_made_in_memory_is_another_one(script, monkeypatch, folder):
    from safetensors.torch import load_file

    recipe = replace(RECIPE, init="random")
    ran = run(script(recipe), recipe, "out", monkeypatch)
    assert len(ran.losses) == 2
    name = "model.embed_tokens.weight"
    files, made = load_file(folder / "model.safetensors"), ran.trainer.model.get_base_model().state_dict()
    assert files[name].shape == made[name].shape
    assert not files[name].equal(made[name])


def test_trl_runs_its_script(script, monkeypatch):
    pytest.importorskip("trl")
    assert len(run(script(RECIPE, "sft-script"), RECIPE, "out", monkeypatch).losses) == 2
