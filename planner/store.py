"""Footprints and the import baseline, kept on disk: a trace is made once for a model, a graph and a set of versions."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import platform
from collections.abc import Mapping
from contextlib import suppress
from importlib.resources import files
from pathlib import Path
from typing import Any

from .footprint import Footprint, footprint_from_dict
from .polynomial import Shape
from .recipe import Recipe
from .versions import stack_versions

_SCHEMA = "lplan.footprint/7"
_SHIPPED = ".json.gz"
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
        """The footprint of this graph that holds for this shape."""
        for path in sorted(self._graph_folder(config, recipe).glob("*.json")):
            footprint = _footprint(self._read(path))
            if footprint is not None and footprint.holds(shape):
                return footprint
        shipped = _shipped(_graph_digest(config, recipe))
        return shipped if shipped is not None and shipped.holds(shape) else None

    def keep(self, config: Mapping[str, Any], recipe: Recipe, footprint: Footprint) -> None:
        """Store a footprint; a folder that cannot be written is no error."""
        name = _digest([footprint.shape, footprint.shortest, footprint.longest])
        self._write(self._graph_folder(config, recipe) / f"{name}.json", footprint.to_dict())

    def find_fact(self, name: str) -> dict[str, Any] | None:
        """Something measured on this machine with these versions; None if it was not."""
        fact = self._read(self._fact_path(name))
        return fact if isinstance(fact, dict) else None

    def keep_fact(self, name: str, fact: Mapping[str, Any]) -> None:
        """Store something measured on this machine."""
        self._write(self._fact_path(name), fact)

    def _fact_path(self, name: str) -> Path:
        machine = [platform.node(), platform.machine(), platform.python_version(), dict(stack_versions())]
        return self.folder / f"{name}-{_digest(machine)}.json"

    def _graph_folder(self, config: Mapping[str, Any], recipe: Recipe) -> Path:
        return self.folder / "footprints" / _graph_digest(config, recipe)

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
            with suppress(OSError):
                aside.unlink()


def ship(config: Mapping[str, Any], recipe: Recipe, footprint: Footprint, folder: Path) -> Path:
    """Write a footprint as the package carries it."""
    path = folder / f"{_graph_digest(config, recipe)}{_SHIPPED}"
    path.write_bytes(gzip.compress(json.dumps(footprint.to_dict()).encode(), mtime=0))
    return path


def _shipped(digest: str) -> Footprint | None:
    """One of the footprints that came with the package, made by benchmarks/footprints.py."""
    file = files("lplan.planner").joinpath("footprints", f"{digest}{_SHIPPED}")
    try:
        return _footprint(json.loads(gzip.decompress(file.read_bytes())))
    except (OSError, ValueError):
        return None


def _graph_digest(config: Mapping[str, Any], recipe: Recipe) -> str:
    """What a graph depends on; of the versions not the build ("+cpu"), nor lplan's own but by the schema."""
    versions = {
        name: version.partition("+")[0] for name, version in stack_versions().items() if name != "lplan"
    }
    return _digest([_SCHEMA, dict(config), _unusual(recipe.graph()), versions])


def _unusual(recipe: Recipe) -> dict[str, Any]:
    """The knobs that differ from their defaults: a knob that is new leaves older footprints valid."""
    usual = Recipe().to_dict()
    return {knob: value for knob, value in recipe.to_dict().items() if value != usual[knob]}


def _footprint(data: Any) -> Footprint | None:
    try:
        return footprint_from_dict(data)
    except (AttributeError, KeyError, TypeError, ValueError):
        return None


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:24]
