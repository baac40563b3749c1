"""A model by whatever a user calls it: a folder, a GGUF file, an alias, a hub id."""

from __future__ import annotations

import difflib
import re
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

from .catalogue import catalogue, in_catalogue
from .checkpoint import stored_weights
from .errors import LplanError, UsageError
from .hub import cached_snapshot, hub_profile, hub_url
from .model import ModelProfile
from .model_config import check_config, read_config

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def find_model(name: str, *, trust_remote_code: bool = False) -> ModelProfile:
    """The model that `name` means: the first of these that exists.

    1. a folder with config.json (weights optional) or a single .gguf, or a .gguf file
    2. an alias or hub id of the catalogue, in any case; with the files of the hub cache where it lies there
    3. any other hub id: in the hub cache, else through the hub's client

    No weights are read, nothing is unpickled, and no code of the model runs; `trust_remote_code` only allows
    a model that needs its own. Raises UsageError for a name that means nothing or no causal language model,
    and LplanError for files that are broken or a hub that does not answer.
    """
    if not name.strip():
        raise UsageError("the model's name is empty", hint=_nearest(name))
    path = _path(name)
    if _is_model(path):
        return _local_profile(path, trust_remote_code=trust_remote_code)
    known = in_catalogue(name)
    if known is not None:
        return _with_cached_files(known, trust_remote_code=trust_remote_code)
    if path.exists() or not _HUB_ID.fullmatch(name):
        raise _not_found(name, path)
    snapshot = cached_snapshot(name)
    if snapshot is not None:
        found = folder_profile(snapshot, trust_remote_code=trust_remote_code)
        return replace(found, id=name, source=hub_url(name))
    return hub_profile(name, trust_remote_code=trust_remote_code, near=_nearest(name))


def folder_profile(folder: Path, *, trust_remote_code: bool = False) -> ModelProfile:
    """The model of a folder with config.json: dtype, sizes and count from its weight files, if it has any.

    Raises LplanError and UsageError as `find_model` does.
    """
    config_path = folder / "config.json"
    config = read_config(config_path)
    architecture = check_config(config, str(config_path), trust_remote_code=trust_remote_code)
    weights, parameters = stored_weights(folder, config)
    return ModelProfile(
        id=folder.resolve().name,
        alias=None,
        model_type=config["model_type"],
        architecture=architecture,
        config=config,
        parameters=parameters,
        weights=weights,
        location=folder,
        source=str(config_path),
        trust_remote_code=trust_remote_code and "auto_map" in config,
    )


def _path(name: str) -> Path:
    try:
        path = Path(name).expanduser()
        (path / "config.json").stat()
    except (FileNotFoundError, NotADirectoryError):
        return path
    except (OSError, ValueError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UsageError(f"cannot look for {name[:80]!r}: {reason}", hint=_nearest(name[:80])) from error
    return path


def _is_model(path: Path) -> bool:
    return (path / "config.json").is_file() or bool(_gguf_files(path))


def _gguf_files(path: Path) -> list[Path]:
    if path.is_dir():
        return sorted(path.glob("*.gguf"))
    return [path] if path.is_file() and path.suffix.lower() == ".gguf" else []


def _local_profile(path: Path, *, trust_remote_code: bool) -> ModelProfile:
    if (path / "config.json").is_file():
        return folder_profile(path, trust_remote_code=trust_remote_code)
    files = _gguf_files(path)
    if len(files) > 1:
        raise UsageError(f"{path} holds {len(files)} GGUF files", hint=f"name one of them: {files[0]}")
    from .gguf_config import gguf_profile

    return gguf_profile(files[0])


def _with_cached_files(known: ModelProfile, *, trust_remote_code: bool) -> ModelProfile:
    """The catalogue's model; with configuration, sizes and location of the real one if the cache has it."""
    snapshot = cached_snapshot(known.id)
    if snapshot is None:
        return replace(known, config=deepcopy(known.config))
    found = folder_profile(snapshot, trust_remote_code=trust_remote_code)
    return replace(
        found,
        id=known.id,
        alias=known.alias,
        parameters=known.parameters,
        source=known.source,
        checked=known.checked,
    )


def _not_found(name: str, path: Path) -> LplanError:
    """Why `name`, which is neither a model here nor in the catalogue nor a hub id, means nothing."""
    if (path / "adapter_config.json").is_file():
        return UsageError(f"{path} is an adapter, not a model", hint="name the base model it was trained on")
    if path.is_dir():
        return UsageError(f"{path} has no config.json", hint="give a folder that from_pretrained could load")
    if path.is_file():
        return UsageError(f"{path} is not a model", hint="give the folder around it, or a .gguf file")
    if _looks_like_path(name):
        return UsageError(f"there is no {name}", hint="give a folder with config.json, or a .gguf file")
    return UsageError(f"no model is called {name!r}", hint=_nearest(name))


def _looks_like_path(name: str) -> bool:
    return name.startswith((".", "/", "~")) or "\\" in name or "/" in name or name.lower().endswith(".gguf")


def _nearest(name: str) -> str:
    """A hint that offers known names like `name`."""
    spellings = {model.id.lower(): alias for alias, model in catalogue().items()}
    spellings |= {hub_id.partition("/")[2]: alias for hub_id, alias in spellings.items()}
    spellings |= {alias: alias for alias in catalogue()}
    near = difflib.get_close_matches(name.lower(), spellings, n=5, cutoff=0.5)
    aliases = list(dict.fromkeys(spellings[spelling] for spelling in near))[:3]
    if not aliases:
        return "`lplan models` lists the known ones; a hub id looks like org/name"
    return f"did you mean {' or '.join(aliases)}? `lplan models` lists all"
