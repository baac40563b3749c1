"""Footprints and the import baseline, kept on disk: a trace is made once for a model, a graph and a set of versions."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .footprint import Footprint, footprint_from_dict
from .polynomial import Shape
from .recipe import Recipe
from .versions import stack_versions

_SCHEMA = "lplan.footprint/1"
CACHE_VARIABLE = "LPLAN_CACHE"


def cache_folder() -> Path:
    """$LPLAN_CACHE, else the platform's cache folder for lplan."""
    if named := os.environ.get(CACHE_VARIABLE):
        return Path(named)
    from platformdirs import user_cache_path

    return user_cache_path("lplan")


class FootprintStore:
    """Looks footprints up by what they depend on. A file that cannot be read is as good as absent."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder if folder is not None else cache_folder()

    def find(self, config: Mapping[str, Any], recipe: Recipe, shape: Shape) -> Footprint | None:
        """The footprint of this graph, for any shape or for this one."""
        for key in (self._key(config, recipe, None), self._key(config, recipe, shape)):
            data = self._read(self.folder / "footprints" / f"{key}.json")
            if data is not None:
                return footprint_from_dict(data)
        return None

    def keep(self, config: Mapping[str, Any], recipe: Recipe, shape: Shape, footprint: Footprint) -> None:
        """Store a footprint; a folder that cannot be written is no error."""
        key = self._key(config, recipe, shape if footprint.shape is not None else None)
        self._write(self.folder / "footprints" / f"{key}.json", footprint.to_dict())

    def find_fact(self, name: str) -> Any:
        """Something measured on this machine with these versions; None if it was not."""
        return self._read(self._fact_path(name))

    def keep_fact(self, name: str, fact: Mapping[str, Any]) -> None:
        """Store something measured on this machine."""
        self._write(self._fact_path(name), fact)

    def _fact_path(self, name: str) -> Path:
        machine = [platform.node(), platform.machine(), platform.python_version(), dict(stack_versions())]
        return self.folder / f"{name}-{_digest(machine)}.json"

    def _key(self, config: Mapping[str, Any], recipe: Recipe, shape: Shape | None) -> str:
        at = None if shape is None else [shape.batch, shape.seq, shape.supervised]
        parts = [_SCHEMA, dict(config), recipe.graph().to_dict(), at, dict(stack_versions())]
        return _digest(parts)

    def _read(self, path: Path) -> Any:
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None

    def _write(self, path: Path, data: Mapping[str, Any]) -> None:
        aside = path.with_suffix(f".{os.getpid()}.part")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            aside.write_text(json.dumps(data), encoding="utf-8")
            aside.replace(path)
        except OSError:
            aside.unlink(missing_ok=True)


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:24]
