"""A GGUF file as a model: the configuration and sizes that transformers will make of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .errors import LplanError
from .gguf_header import GgufHeader, read_gguf_header
from .model import ModelProfile, WeightFiles
from .model_config import check_config
from .transformers_source import gguf_config_defaults, gguf_config_keys

# llama.cpp's names of architectures that transformers writes differently (load_gguf_checkpoint).
_RENAMED = {
    "qwen2moe": "qwen2_moe",
    "qwen3moe": "qwen3_moe",
    "gpt-oss": "gpt_oss",
    "minimax-m2": "minimax_m2",
}
_TEXT_PART = {"gemma3": "gemma3_text", "gemma4": "gemma4_text"}
_ALWAYS_TIED = ("falcon", "bloom")
_NOT_PARAMETERS = ("rope_freqs.weight",)


def gguf_profile(path: Path) -> ModelProfile:
    """The model in a GGUF file. `location` is the file: from_pretrained takes its folder and gguf_file.

    `weights.dtype` is the GGUF type that takes most bytes; loading dequantizes all of it.
    Raises LplanError for a broken or split file, or an architecture that transformers cannot load from GGUF.
    """
    header = read_gguf_header(path)
    if header.metadata.get("split.count", 1) > 1:
        raise LplanError(
            f"{path} is one part of a split GGUF model", hint="merge the parts with llama-gguf-split --merge"
        )
    config = gguf_config(header, str(path))
    architecture = check_config(config, str(path))
    sizes: Counter[str] = Counter()
    for tensor in header.tensors:
        sizes[tensor.type] += tensor.stored_bytes
    file_bytes = path.stat().st_size
    dtype = max(sizes, key=lambda name: sizes[name], default="F32")
    return ModelProfile(
        id=path.stem,
        alias=None,
        model_type=config["model_type"],
        architecture=architecture,
        config={**config, "architectures": [architecture]},
        parameters=sum(tensor.elements for tensor in header.tensors if tensor.name not in _NOT_PARAMETERS),
        weights=WeightFiles(format="gguf", dtype=dtype, total_bytes=file_bytes, shard_bytes=(file_bytes,)),
        location=path,
        source=str(path),
    )


def gguf_config(header: GgufHeader, where: str) -> dict[str, Any]:
    """The config.json values that transformers derives from the metadata (its load_gguf_checkpoint)."""
    written = header.metadata.get("general.architecture")
    kind = _RENAMED.get(str(written), str(written))
    keys = gguf_config_keys().get(kind)
    if keys is None or kind in ("general", "tokenizer"):
        raise LplanError(
            f"{where}: transformers cannot load GGUF files of architecture {written!r}",
            hint="use the model's safetensors instead",
        )
    names = {tensor.name for tensor in header.tensors}
    config: dict[str, Any] = {
        "model_type": _TEXT_PART.get(kind, kind),
        "tie_word_embeddings": "output.weight" not in names or kind in _ALWAYS_TIED,
        **gguf_config_defaults().get(kind, {}),
        **_mapped(header.metadata, f"{written}.", keys),
    }
    if kind == "stablelm":
        config["use_qkv_bias"] = any(name.endswith("attn_q.bias") for name in names)
        config["use_parallel_residual"] = not any("ffn_norm" in name for name in names)
    if "vocab_size" not in config and "tokenizer.ggml.tokens" in header.lengths:
        config["vocab_size"] = header.lengths["tokenizer.ggml.tokens"]
    return config


def _mapped(metadata: Mapping[str, Any], prefix: str, keys: Mapping[str, str | None]) -> dict[str, Any]:
    found = ((target, metadata.get(prefix + key)) for key, target in keys.items())
    return {target: value for target, value in found if isinstance(target, str) and value is not None}
