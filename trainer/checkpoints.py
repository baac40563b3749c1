"""A run's checkpoints on disk: written aside, flushed, renamed; checked before they are believed.

checkpoints/step-00000012/ holds the files of one state and manifest.json, their sizes and SHA-256. The one
before stays until the new one is complete, so that there is always one to go back to.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

KEPT = 2
_MANIFEST = "manifest.json"
_NAME = re.compile(r"step-(\d{8,})")
_PART = ".part"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A state to continue from, after `step` optimizer steps."""

    path: Path
    step: int


def write_checkpoint(folder: Path, step: int, fill: Callable[[Path], None]) -> Checkpoint:
    """Have `fill` write the files of a state, and keep them as the newest checkpoint.

    Raises OSError when they cannot be written; the checkpoints before are as they were then.
    """
    aside = folder / f".step-{step:08d}{_PART}"
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir()
    try:
        fill(aside)
        _write_manifest(aside)
        path = folder / f"step-{step:08d}"
        shutil.rmtree(path, ignore_errors=True)
        aside.rename(path)
        _flush(folder)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    for old in list_checkpoints(folder)[KEPT:]:
        shutil.rmtree(old.path, ignore_errors=True)
    return Checkpoint(path, step)


def list_checkpoints(folder: Path) -> list[Checkpoint]:
    """All complete checkpoints, the newest first, unchecked."""
    if not folder.is_dir():
        return []
    found = [(name, path) for path in folder.iterdir() if (name := _NAME.fullmatch(path.name))]
    return sorted((Checkpoint(path, int(name[1])) for name, path in found), key=lambda c: -c.step)


def newest_good(folder: Path) -> tuple[Checkpoint | None, list[str]]:
    """The newest checkpoint whose files are as they were written, and what is wrong with newer ones.

    Removes what an interrupted write has left.
    """
    for part in folder.glob(f".step-*{_PART}"):
        shutil.rmtree(part, ignore_errors=True)
    damaged: list[str] = []
    for checkpoint in list_checkpoints(folder):
        damage = damage_of(checkpoint)
        if damage is None:
            return checkpoint, damaged
        damaged.append(f"the checkpoint after step {checkpoint.step} is damaged ({damage}) and not used")
    return None, damaged


def damage_of(checkpoint: Checkpoint) -> str | None:
    """What is wrong with a checkpoint's files; None if they are as they were written."""
    try:
        manifest = json.loads((checkpoint.path / _MANIFEST).read_text(encoding="utf-8"))
        files = {str(name): (int(size), str(digest)) for name, (size, digest) in manifest["files"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return f"{_MANIFEST} cannot be read"
    for name, (size, digest) in files.items():
        path = checkpoint.path / name
        if "/" in name or not path.is_file():
            return f"{name} is missing"
        if path.stat().st_size != size:
            return f"{name} has {path.stat().st_size:,} bytes instead of {size:,}"
        if _digest(path) != digest:
            return f"{name} has changed since it was written"
    return None


def _write_manifest(folder: Path) -> None:
    files = {path.name: (path.stat().st_size, _digest(path)) for path in sorted(folder.iterdir())}
    with (folder / _MANIFEST).open("w", encoding="utf-8") as file:
        json.dump({"schema": "lplan.checkpoint/1", "files": files}, file)
        file.flush()
        os.fsync(file.fileno())
    _flush(folder)


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def _flush(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
