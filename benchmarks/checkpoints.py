"""Checkpoints that benchmarks load: the real SmolLM2, and random weights in real shapes, written once."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lplan.trainer.data.readers import read_examples
from lplan.trainer.data.tokenizer_training import train_tokenizer
from lplan.trainer.demo_model import prepare

from .cases import llama

CACHE = Path(os.environ.get("LPLAN_BENCH_CACHE", Path(__file__).parents[1] / ".demo"))
_RANDOM: Mapping[str, tuple[Mapping[str, Any], str]] = {
    "llama-4-bf16": (llama(4), "5GB"),
    "tinyllama-random": (llama(22), "1GB"),
}


def checkpoint(name: str) -> Path:
    """The folder of a checkpoint, made on first use."""
    folder = CACHE / name
    if name in _RANDOM:
        config, shard_size = _RANDOM[name]
        if not (folder / "config.json").exists():
            _write_random(folder, config, shard_size)
        return folder
    return prepare(folder)


def tinyllama(data: str) -> Path:
    """TinyLlama's shape with random weights, and a tokenizer trained on the data: its own is not reachable."""
    return with_tokenizer("tinyllama-random", data)


def with_tokenizer(name: str, data: str) -> Path:
    """A checkpoint of random weights, with a tokenizer trained on the data within its vocabulary."""
    folder = checkpoint(name)
    if not (folder / "tokenizer.json").exists():
        texts = [
            m.content for example in read_examples(data, task="banking77").train for m in example.messages
        ]
        config, _ = _RANDOM[name]
        train_tokenizer(texts, config["vocab_size"], folder)
    return folder


def _write_random(folder: Path, config: Mapping[str, Any], shard_size: str) -> None:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    values = dict(config)
    model = AutoModelForCausalLM.from_config(
        AutoConfig.for_model(values.pop("model_type"), **values), dtype=torch.bfloat16
    )
    model.save_pretrained(folder, max_shard_size=shard_size)
