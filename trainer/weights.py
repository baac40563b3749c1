"""A model's files on this machine: there already, or fetched through the hub client before the run is limited."""

from __future__ import annotations

from pathlib import Path

from ..profiles.errors import LplanError
from ..profiles.find import folder_profile
from ..profiles.hub_errors import errors_for_users
from ..profiles.model import ModelProfile

_FILES = ("*.json", "*.safetensors", "*.jinja", "tokenizer.model")


def local_folder(model: ModelProfile) -> Path:
    """The folder with the model's configuration and tokenizer, and its weights where it has any.

    Raises LplanError when the hub does not hand them out.
    """
    if isinstance(model.location, Path):
        return model.location if model.location.is_dir() else model.location.parent
    from huggingface_hub import snapshot_download

    name = model.location or model.id
    with errors_for_users(name, ""):
        return Path(snapshot_download(name, allow_patterns=list(_FILES)))


def with_weights(model: ModelProfile) -> ModelProfile:
    """The profile of the files that a run would load. Raises LplanError when they are not safetensors."""
    found = folder_profile(local_folder(model), trust_remote_code=model.trust_remote_code)
    if found.weights.format != "safetensors":
        raise LplanError(
            f"{model.id} has no safetensors weights here (found: {found.weights.format})",
            hint="convert them to safetensors, or train from scratch with --init random",
        )
    return found
