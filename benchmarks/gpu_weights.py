"""Files of random weights in a catalogue model's shape, made on the GPU: what is quantized is read from files."""

from __future__ import annotations

import json
from pathlib import Path

from lplan.profiles.find import find_model

from .checkpoints import CACHE


def random_weights(model: str) -> Path:
    """The folder of a catalogue model's random checkpoint in bf16, made on first use."""
    folder = CACHE / f"{model}-random-gpu"
    if not (folder / "config.json").exists():
        import torch
        from transformers import AutoConfig, AutoModelForCausalLM

        values = dict(find_model(model).config)
        with torch.device("cuda"):
            made = AutoModelForCausalLM.from_config(
                AutoConfig.for_model(values.pop("model_type"), **values), dtype=torch.bfloat16
            )
        made.save_pretrained(folder)
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, **find_model(model).config}))
        del made
        torch.cuda.empty_cache()
    return folder
