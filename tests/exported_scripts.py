"""Exported scripts and a tiny model and data to run them on."""

from __future__ import annotations

import json
import runpy
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import made_up
import pytest
from command_line import CONFIG, QUESTIONS, make_model

from lplan.planner.allocator import environment_of
from lplan.planner.export.targets import Exported, export_plan
from lplan.planner.plan import Schedule
from lplan.planner.planning import make_plan
from lplan.planner.recipe import Recipe

SMALL: dict[str, Any] = {
    "seq_len": 64, "supervised_len": 64, "dropout": 0.0, "batch_size": 2, "accumulation": 2, "rank": 4, "alpha": 8,
    "pad_to_multiple_of": 8, "threads": 1,
}  # fmt: skip
LINEARS = 7 * CONFIG["num_hidden_layers"]
"""Of the tiny Llama, without its output head: query, key, value, output, gate, up and down of each layer."""


def make_pretrained(folder: Path) -> Path:
    """The tiny model with weights as transformers initialises them, and its tokenizer."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    make_model(folder)
    (folder / "model.safetensors").unlink()
    config = AutoConfig.for_model(**{k: v for k, v in CONFIG.items() if k != "architectures"})
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return folder


def write_dialogues(file: Path) -> None:
    """Questions and answers, as the scripts read them."""
    with file.open("w") as lines:
        for question, answer in QUESTIONS:
            turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
            lines.write(json.dumps({"messages": turns}) + "\n")


def export(recipe: Recipe, target: str, model: Path) -> Exported:
    """A plan of two steps at a large learning rate."""
    plan = make_plan(made_up.task(), None)
    profile = replace(plan.estimate.model, location=model)
    estimate = replace(plan.estimate, model=profile)
    schedule = Schedule(max_steps=2, learning_rate=1e-2, warmup_steps=0)
    return export_plan(replace(plan, recipe=recipe, estimate=estimate, schedule=schedule), target)


@dataclass(frozen=True)
class Ran:
    """What a script ended with: the Trainer itself, and what it logged of every step."""

    trainer: Any
    losses: list[float]


def run(path: Path, recipe: Recipe, output: str, monkeypatch: pytest.MonkeyPatch) -> Ran:
    """Run a script in this process, with the environment that it wants; the data is ./train.jsonl."""
    import transformers

    trainers: list[Any] = []
    train: Callable[..., Any] = transformers.Trainer.train

    def kept(trainer: Any, *args: Any, **options: Any) -> Any:
        trainers.append(trainer)
        return train(trainer, *args, **options)

    for name, value in environment_of(recipe.allocator, threads=recipe.threads).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("sys.argv", [str(path), "train.jsonl", output])
    with monkeypatch.context() as patched:
        patched.setattr(transformers.Trainer, "train", kept)
        runpy.run_path(str(path), run_name="__main__")
    (trainer,) = trainers
    return Ran(trainer, [entry["loss"] for entry in trainer.state.log_history if "loss" in entry])
