"""What a model is: the noun that every way of finding a model ends in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

WeightsFormat = Literal["safetensors", "pickle", "gguf", "none"]


@dataclass(frozen=True, kw_only=True, slots=True)
class WeightFiles:
    """The checkpoint behind a model, as far as it is known before anything is downloaded.

    `shard_bytes` are file sizes in the order they are loaded; empty when only `total_bytes` is known.
    """

    format: WeightsFormat
    dtype: str
    """Dtype of the stored tensors: "float32", "bfloat16", "float16", or a GGUF type."""
    total_bytes: int
    shard_bytes: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelProfile:
    """A causal language model: its configuration and, where known, its weights.

    `config` is the content of config.json. `location` is what `from_pretrained` takes: a folder
    or a hub id; None for a catalogue entry's configuration alone.
    """

    id: str
    """Hub id, or the folder's name."""
    alias: str | None
    model_type: str
    architecture: str
    """Class name, such as LlamaForCausalLM."""
    config: Mapping[str, Any] = field(hash=False)
    parameters: int | None
    """Published or counted from the files' headers; None until traced."""
    weights: WeightFiles
    location: Path | str | None
    source: str
    checked: str | None = None
    """ISO date on which the source was read (catalogue entries)."""
    trust_remote_code: bool = False
