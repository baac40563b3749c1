"""Exported scripts do what they say: two real steps with the real libraries, on a tiny model."""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
from dataclasses import replace

import made_up
import pytest
from command_line import CONFIG, QUESTIONS, make_model

from lplan.planner.allocator import environment_of
from lplan.planner.export.targets import export_plan
from lplan.planner.plan import Schedule
from lplan.planner.planning import make_plan
from lplan.planner.recipe import Recipe

RECIPE = Recipe(
    seq_len=64, supervised_len=64, precision="fp32", dropout=0.0, batch_size=2, accumulation=2, rank=4, alpha=8,
    pad_to_multiple_of=8, threads=1,
)  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    folder = make_model(tmp_path_factory.mktemp("exported") / "tiny")
    (folder / "model.safetensors").unlink()
    config = AutoConfig.for_model(**{k: v for k, v in CONFIG.items() if k != "architectures"})
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return folder


@pytest.fixture
def script(folder, tmp_path, monkeypatch):
    """Writes a plan as a script; with the data, in a folder of its own."""
    made_up.install(monkeypatch, tmp_path / "cache")

    def write(recipe, target="hf-script"):
        plan = make_plan(made_up.task(), None)
        model = replace(plan.estimate.model, location=folder)
        plan = replace(
            plan, recipe=recipe, estimate=replace(plan.estimate, model=model),
            schedule=Schedule(max_steps=2, learning_rate=1e-2, warmup_steps=0),
        )  # fmt: skip
        path = tmp_path / f"{recipe.loss}.py"
        path.write_text(export_plan(plan, target).text)
        return path

    with (tmp_path / "train.jsonl").open("w") as file:
        for question, answer in QUESTIONS:
            turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
            file.write(json.dumps({"messages": turns}) + "\n")
    monkeypatch.chdir(tmp_path)
    return write


def losses(path, recipe, monkeypatch, capsys):
    """What the Trainer logs when a script runs in this process, with the environment that it wants."""
    for name, value in environment_of(recipe.allocator, threads=recipe.threads).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "argv", [str(path), "train.jsonl", f"out-{recipe.loss}"])
    capsys.readouterr()
    runpy.run_path(str(path), run_name="__main__")
    lines = [line for line in capsys.readouterr().out.splitlines() if "'loss'" in line]
    return [float(line.split("'loss': '")[1].split("'")[0]) for line in lines]


def test_the_loss_paths_of_the_scripts_agree(script, monkeypatch, capsys, tmp_path):
    found = {}
    for loss in ("full", "supervised", "chunked"):
        recipe = replace(RECIPE, loss=loss, input_casting=loss != "chunked", checkpointing="every-2")
        found[loss] = losses(script(recipe), recipe, monkeypatch, capsys)
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


def test_trl_runs_its_script(script, monkeypatch, capsys):
    pytest.importorskip("trl")
    found = losses(script(RECIPE, "sft-script"), RECIPE, monkeypatch, capsys)
    assert len(found) == 2
