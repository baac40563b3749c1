"""Models of the Hugging Face hub: from the local cache, or through the hub's own client."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .checkpoint import PICKLE, SAFETENSORS, packed_format, weight_names
from .errors import LplanError
from .hub_errors import HubUnreachableError, errors_for_users
from .model import ModelProfile, WeightFiles, WeightsFormat
from .model_config import check_config, config_dtype, read_config
from .safetensors_header import DTYPE_NAMES

if TYPE_CHECKING:
    from huggingface_hub import ModelInfo

_WEIGHT_NAMES: tuple[tuple[str, WeightsFormat], ...] = (
    (r"model\.safetensors", "safetensors"),
    (r"model-\d{5}-of-\d{5}\.safetensors", "safetensors"),
    (r"pytorch_model\.bin", "pickle"),
    (r"pytorch_model-\d{5}-of-\d{5}\.bin", "pickle"),
)


def cached_snapshot(repo_id: str) -> Path | None:
    """The folder of a model's main revision in the hub cache, if its configuration and all weights lie there.

    Looks only at the file system: importing the client would cost more than the rest of an estimate.
    """
    from huggingface_hub import constants

    repository = Path(constants.HF_HUB_CACHE) / f"models--{repo_id.replace('/', '--')}"
    try:
        commit = (repository / "refs" / "main").read_text(encoding="utf-8").strip()
        snapshot = repository / "snapshots" / commit
        complete = (snapshot / "config.json").is_file() and _weights_lie_in(snapshot)
    except (OSError, ValueError, LplanError):
        return None
    return snapshot if complete else None


def hub_profile(repo_id: str, *, trust_remote_code: bool = False, near: str = "") -> ModelProfile:
    """The model of a hub id whose weights are not in the cache; only its config.json is downloaded.

    Sizes are those that the hub lists; a hub that cannot be asked leaves them unknown (format "none") if the
    cache has at least config.json. `near` is a hint that names known models.
    Raises UsageError for an id the hub does not know, LplanError where it cannot be reached, is gated, or
    what it holds is no model.
    """
    info = _ask(repo_id, near)
    config = read_config(_fetch_config(repo_id, near, from_cache=info is None))
    where = f"config.json of {repo_id}"
    architecture = check_config(config, where, trust_remote_code=trust_remote_code)
    weights, parameters = _listed_weights(info, config)
    return ModelProfile(
        id=repo_id,
        alias=None,
        model_type=config["model_type"],
        architecture=architecture,
        config=config,
        parameters=parameters,
        weights=weights,
        location=repo_id,
        source=hub_url(repo_id),
        trust_remote_code=trust_remote_code and "auto_map" in config,
    )


def hub_url(repo_id: str) -> str:
    """The page of a model."""
    return f"https://huggingface.co/{repo_id}"


def _weights_lie_in(folder: Path) -> bool:
    try:
        return bool(weight_names(folder, SAFETENSORS) or weight_names(folder, PICKLE))
    except LplanError:  # a shard was not downloaded
        return False


def _ask(repo_id: str, near: str) -> ModelInfo | None:
    """What the hub lists for a model; None where it cannot be asked. One request, which is not repeated."""
    from huggingface_hub import HfApi, constants

    if constants.is_offline_mode():
        return None
    try:
        with errors_for_users(repo_id, near):
            return HfApi().model_info(repo_id, files_metadata=True)
    except HubUnreachableError:
        return None


def _fetch_config(repo_id: str, near: str, *, from_cache: bool) -> Path:
    from huggingface_hub import hf_hub_download

    with errors_for_users(repo_id, near):
        return Path(hf_hub_download(repo_id, "config.json", local_files_only=from_cache))


def _listed_weights(info: ModelInfo | None, config: Mapping[str, Any]) -> tuple[WeightFiles, int | None]:
    """Files and parameters as the hub lists them: those that from_pretrained would take."""
    sizes = {file.rfilename: file.size or 0 for file in (info and info.siblings) or ()}
    stored = info.safetensors.parameters if info and info.safetensors else {}
    for pattern, weights_format in _WEIGHT_NAMES:
        shards = tuple(size for name, size in sorted(sizes.items()) if re.fullmatch(pattern, name))
        if shards:
            dtype = _listed_dtype(stored, config)
            files = WeightFiles(
                format=weights_format, dtype=dtype, total_bytes=sum(shards), shard_bytes=shards
            )
            return files, _listed_parameters(stored, config)
    return WeightFiles(format="none", dtype=config_dtype(config), total_bytes=0), None


def _listed_dtype(stored: Mapping[str, int], config: Mapping[str, Any]) -> str:
    code = max(stored, key=lambda code: stored[code], default="")
    return packed_format(config) or DTYPE_NAMES.get(code) or config_dtype(config)


def _listed_parameters(stored: Mapping[str, int], config: Mapping[str, Any]) -> int | None:
    """Floating-point values in the files; None for quantized weights, which hold several values in one."""
    if not stored or config.get("quantization_config"):
        return None
    return sum(count for code, count in stored.items() if code.startswith(("F", "BF")))
