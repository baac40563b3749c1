"""A model's files on this machine: there already, or fetched through the hub client before the run is limited."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ..profiles.errors import LplanError
from ..profiles.find import folder_profile
from ..profiles.hub_errors import errors_for_users
from ..profiles.model import ModelProfile

_FILES = ("*.json", "*.jinja", "*.txt", "tokenizer.model", "model.safetensors", "model-*-of-*.safetensors")
_CODE = "*.py"


def with_weights(model: ModelProfile) -> ModelProfile:
    """The profile of the files that a run would load, under the model's own name.

    Raises LplanError when they are broken, not safetensors, or when the hub does not hand them out.
    """
    if model.weights.format in ("gguf", "pickle"):
        raise _no_safetensors(model, model.weights.format)
    found = folder_profile(_local_folder(model), trust_remote_code=model.trust_remote_code)
    if found.weights.format != "safetensors":
        raise _no_safetensors(model, found.weights.format)
    return replace(found, id=model.id, alias=model.alias, source=model.source, checked=model.checked)


def _local_folder(model: ModelProfile) -> Path:
    """The folder with configuration, tokenizer and weights: the model's own, or a snapshot of the hub's."""
    if isinstance(model.location, Path):
        return model.location
    from huggingface_hub import snapshot_download

    name = model.location or model.id
    wanted = [*_FILES, _CODE] if model.trust_remote_code else list(_FILES)
    with errors_for_users(name, ""):
        return Path(snapshot_download(name, allow_patterns=wanted, ignore_patterns=["*/*"]))


def _no_safetensors(model: ModelProfile, found: str) -> LplanError:
    return LplanError(
        f"{model.id} has no safetensors weights (found: {found})",
        hint="save it as safetensors with transformers, or train from scratch with --init random",
    )
