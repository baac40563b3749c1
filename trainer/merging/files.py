"""Where the tensors of a checkpoint lie, and what its architecture makes of them; weights are not read."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...profiles.checkpoint import SAFETENSORS, weight_names
from ...profiles.errors import LplanError, UsageError, first_line
from ...profiles.safetensors_header import read_header

INDEX = f"{SAFETENSORS}.index.json"
DTYPES = ("bfloat16", "float16", "float32")
"""What an adapter is merged into, by torch's names."""
_FIRST, _SECOND = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """A tensor's bytes in a file of the checkpoint."""

    file: str
    start: int
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Skeleton:
    """What the files don't say of an architecture."""

    transposed: frozenset[str]
    """Paths of modules whose matrices are (in, out): GPT-2's Conv1D."""
    embeddings: str
    head: str | None
    """Path of the head where it shares the weight of the embeddings."""
    prefix: str
    """What the files of a bare model leave out of every path."""


def places(base: Path) -> dict[str, Place]:
    """Every tensor of a checkpoint, by name.

    Raises UsageError for one without safetensors, LplanError for files that are not sound.
    """
    found = {
        tensor.name: Place(file=path.name, start=tensor.start, shape=tensor.shape, dtype=tensor.dtype)
        for path in weight_names(base, SAFETENSORS)
        for tensor in read_header(path)
    }
    if not found:
        raise UsageError(
            f"{base} holds no safetensors weights to merge into", hint="name the base by --model"
        )
    return found


def skeleton(base: Path) -> Skeleton:
    """The architecture of a model folder, made without weights. Raises LplanError where it is not known."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    try:
        config = AutoConfig.from_pretrained(base)
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config)
    except Exception as error:
        raise LplanError(
            f"the model of {base} cannot be made: {first_line(error)}", hint="check its config.json"
        ) from error
    paths = {id(module): path for path, module in model.named_modules()}
    embeddings, head = model.get_input_embeddings(), model.get_output_embeddings()
    tied = head is not None and head.weight is embeddings.weight
    return Skeleton(
        transposed=frozenset(p for p, module in model.named_modules() if type(module).__name__ == "Conv1D"),
        embeddings=paths[id(embeddings)],
        head=paths[id(head)] if tied else None,
        prefix=f"{model.base_model_prefix}.",
    )


def untie(folder: Path, head: str, file: str) -> None:
    """Have a checkpoint's configuration and index know that the head has a weight of its own, in `file`."""
    index, single = folder / INDEX, folder / SAFETENSORS
    if single.is_file():
        shard = single.rename(folder / _FIRST)
        data = {"metadata": {}, "weight_map": {t.name: shard.name for t in read_header(shard)}}
    else:
        data = json.loads(index.read_text(encoding="utf-8"))
    data["weight_map"][head] = file
    index.write_text(json.dumps(data, indent=1), encoding="utf-8")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    inner = [value for value in config.values() if isinstance(value, dict) and "tie_word_embeddings" in value]
    for part in (config, *inner):
        part["tie_word_embeddings"] = False
    (folder / "config.json").write_text(json.dumps(config, indent=1), encoding="utf-8")


def head_file(base: Path) -> str:
    """The file of a head that gets a weight of its own: a second one, or one more shard."""
    return _SECOND if (base / SAFETENSORS).is_file() else "model-head.safetensors"


def header_of(name: str, place: Place) -> bytes:
    """What a safetensors file of this one tensor begins with."""
    code = {"bfloat16": "BF16", "float16": "F16", "float32": "F32"}[place.dtype]
    item_bytes = 4 if code == "F32" else 2
    size = item_bytes
    for width in place.shape:
        size *= width
    entry = {"dtype": code, "shape": list(place.shape), "data_offsets": [0, size]}
    text = json.dumps({"__metadata__": {"format": "pt"}, name: entry}).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """A safetensors file's tensors. Raises LplanError for one that is broken."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as tensors:
            yield tensors
    except SafetensorError as error:
        raise LplanError(f"{path} is broken: {error}", hint="save the adapter again") from error


def shapes_of(path: Path) -> Mapping[str, tuple[int, ...]]:
    """Every tensor of an adapter's file and its shape. Raises LplanError for a file that is not sound."""
    return {tensor.name: tensor.shape for tensor in read_header(path)}
