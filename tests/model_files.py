"""Small model folders, as the real libraries write them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

TINY: Mapping[str, Any] = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "vocab_size": 128,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "tie_word_embeddings": False,
    "dtype": "bfloat16",
}

# Embedding and head 2 x 128 x 32; a layer: q and o 2 x 32 x 32, k and v 2 x 16 x 32, MLP 3 x 32 x 64, norms 2 x 32;
# the last norm 32.
TINY_PARAMETERS = 2 * 128 * 32 + 2 * (2 * 32 * 32 + 2 * 16 * 32 + 3 * 32 * 64 + 2 * 32) + 32


def write_config(folder: Path, config: Any = TINY, **changes: Any) -> Path:
    """A folder with config.json: `config`, or text as it is."""
    folder.mkdir(parents=True, exist_ok=True)
    text = config if isinstance(config, str) else json.dumps({**config, **changes})
    (folder / "config.json").write_text(text, encoding="utf-8")
    return folder


def write_tensors(file: Path, shapes: Mapping[str, tuple[int, ...]], dtype: str = "bfloat16") -> Path:
    """A safetensors file of zeros."""
    import torch
    from safetensors.torch import save_file

    tensors = {name: torch.zeros(shape, dtype=getattr(torch, dtype)) for name, shape in shapes.items()}
    save_file(tensors, file)
    return file


def write_index(folder: Path, weight_map: Any, name: str = "model.safetensors.index.json") -> Path:
    """An index of shards."""
    (folder / name).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}), encoding="utf-8")
    return folder
