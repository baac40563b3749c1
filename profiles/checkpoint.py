"""The weight files of a model folder: format, dtype, sizes and parameters. No data is read or unpickled."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from .errors import LplanError
from .model import WeightFiles, WeightsFormat
from .model_config import config_dtype
from .safetensors_header import StoredTensor, read_header

SAFETENSORS = "model.safetensors"
PICKLE = "pytorch_model.bin"

# Buffers that older checkpoints carry along: causal masks and rotary frequencies.
_MASKS = (".attn.bias", ".attention.bias", ".attn.masked_bias", ".attention.masked_bias")
_FREQUENCIES = "rotary_emb.inv_freq"


def stored_weights(folder: Path, config: Mapping[str, Any]) -> tuple[WeightFiles, int | None]:
    """The checkpoint in `folder`, and the parameters that it holds: tied heads once, buffers left out.

    The files are those that from_pretrained takes: one safetensors file before shards, pickle last. Without
    any the format is "none" and the dtype that of config.json. The count is None where no header tells it.
    Raises LplanError for a file that is missing or corrupt, or an index that names a file elsewhere.
    """
    files = weight_names(folder, SAFETENSORS)
    if files:
        headers = [read_header(file) for file in files]
        tensors = [tensor for header in headers for tensor in header]
        return _files("safetensors", stored_dtype(tensors, config), files), count_parameters(tensors, config)
    files = weight_names(folder, PICKLE)
    if files:
        return _files("pickle", config_dtype(config), files), None
    return WeightFiles(format="none", dtype=config_dtype(config), total_bytes=0), None


def weight_names(folder: Path, name: str) -> list[Path]:
    """The file `name` in `folder`, or the shards of its index in the order they are loaded, or nothing."""
    single, index = folder / name, folder / f"{name}.index.json"
    if single.is_file():
        return [single]
    if not index.is_file():
        return []
    shards = [folder / shard for shard in sorted(_shard_names(index))]
    missing = next((shard for shard in shards if not shard.is_file()), None)
    if missing is not None:
        raise LplanError(
            f"{missing.name} is missing in {folder}", hint=f"{index.name} names it: download the model again"
        )
    return shards


def count_parameters(tensors: Iterable[StoredTensor], config: Mapping[str, Any]) -> int | None:
    """Parameters in a checkpoint; None for quantized weights, whose tensors hold several values in one."""
    if config.get("quantization_config"):
        return None
    tied = config.get("tie_word_embeddings") is True
    return sum(tensor.elements for tensor in tensors if not _is_extra(tensor, tied=tied))


def stored_dtype(tensors: Iterable[StoredTensor], config: Mapping[str, Any]) -> str:
    """The dtype that takes most of the bytes, or the name of a packed format."""
    sizes: Counter[str] = Counter()
    for tensor in tensors:
        sizes[tensor.dtype] += tensor.stored_bytes
    most = max(sizes, key=lambda dtype: sizes[dtype], default=config_dtype(config))
    return packed_format(config) or most


def packed_format(config: Mapping[str, Any]) -> str | None:
    """The name of a format that stores several values in one integer, where torch has no dtype for it."""
    quantization = config.get("quantization_config")
    is_mxfp4 = isinstance(quantization, dict) and quantization.get("quant_method") == "mxfp4"
    return "mxfp4" if is_mxfp4 else None


def _is_extra(tensor: StoredTensor, *, tied: bool) -> bool:
    is_mask = tensor.name.endswith(_MASKS) and len(tensor.shape) in (0, 4)
    return is_mask or tensor.name.endswith(_FREQUENCIES) or (tied and tensor.name == "lm_head.weight")


def _shard_names(index: Path) -> set[str]:
    try:
        weight_map = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        names = set(weight_map.values())
    except OSError as error:
        raise LplanError(f"cannot read {index}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise LplanError(f"{index} is not an index of weights", hint="download it again") from error
    for name in names:
        if not _is_plain_name(name):
            raise LplanError(
                f"{index} names {name!r}, which is not a file of its own folder",
                hint="do not load this model: an honest index names files beside it",
            )
    return names


def _is_plain_name(name: Any) -> bool:
    if not isinstance(name, str) or not name.endswith((".safetensors", ".bin")):
        return False
    return not any(character in name for character in "/\\:\0")


def _files(weights_format: WeightsFormat, dtype: str, files: list[Path]) -> WeightFiles:
    sizes = tuple(file.stat().st_size for file in files)
    return WeightFiles(format=weights_format, dtype=dtype, total_bytes=sum(sizes), shard_bytes=sizes)
