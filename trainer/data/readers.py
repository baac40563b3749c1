"""Data sets: a file, a folder, the embedded demo or a hub name in, examples by split out."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from pathlib import Path

from ...profiles.errors import LplanError, UsageError
from .examples import DataSet, Example
from .files import READERS, file_rows, readable
from .hub import hub_rows, looks_like_hub_name
from .rows import Row, RowReader
from .splits import hold_out
from .tasks import find_task

DEMO = "demo"
"""The location of the embedded data set: 308 banking queries written for lplan."""

DEMO_TASK = "banking77"
"""Its task where none is named."""
_DEMO_FILE = "banking_queries.csv"
_SPLIT_NAMES = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev", "eval"),
    "test": ("test",),
}
_SHARD = r"(?:[-_.]\d.*)?"


def read_examples(location: str, *, task: str | None, seed: int = 42) -> DataSet:
    """The data set at `location`: a file, a folder, "demo", or the name of a data set on the hub.

    Files are CSV, TSV, JSON lines, a JSON array or Parquet, told apart by suffix. A folder holds them by
    split, as train.csv and test.csv. A split called validation is used as it is; without one, a stratified
    tenth of train is held out, the same for the same `seed`.

    Raises UsageError for a location, task or columns that can't be, LplanError for broken content.
    """
    if location == DEMO:
        return _read_demo(task, seed)
    path = Path(location).expanduser()
    if path.is_dir():
        return _read_files(location, "folder", _split_files(path), task, seed)
    if path.exists():
        return _read_files(location, _format(path), {"train": [path]}, task, seed)
    if looks_like_hub_name(location) and path.suffix.lower() not in READERS:
        splits, fingerprint = hub_rows(location)
        return _data_set(location, "hub", splits, fingerprint, task, seed)
    raise UsageError(
        f"there is no file or folder {location}", hint="check the path, or say demo for a built-in set"
    )


def _read_demo(task: str | None, seed: int) -> DataSet:
    with resources.as_file(resources.files(__package__) / _DEMO_FILE) as path:
        return _read_files(DEMO, DEMO, {"train": [path]}, task or DEMO_TASK, seed)


def _format(path: Path) -> str:
    suffix = path.suffix.lower()
    if suffix not in READERS:
        raise UsageError(f"{path.name} is of no known format", hint=f"known are {', '.join(READERS)}")
    return suffix[1:]


def _split_files(folder: Path) -> dict[str, list[Path]]:
    """Files of every split, shards in order."""
    with readable(folder):
        files = sorted(f for f in folder.iterdir() if f.suffix.lower() in READERS and f.is_file())
    splits = {
        split: [f for f in files if any(re.fullmatch(name + _SHARD, f.stem.lower()) for name in names)]
        for split, names in _SPLIT_NAMES.items()
    }
    if not splits["train"]:
        found = ", ".join(f.name for f in files) or "no data files at all"
        raise UsageError(
            f"{folder} holds no train file, but {found}", hint="name the file itself, or call it train.*"
        )
    for split, names in splits.items():
        if len({f.suffix for f in names}) > 1:
            raise UsageError(
                f"{folder} holds {split} in several formats", hint="keep one, or name the file itself"
            )
    return {split: names for split, names in splits.items() if names}


def _read_files(
    location: str, format_name: str, files: Mapping[str, Sequence[Path]], task: str | None, seed: int
) -> DataSet:
    splits = {split: (row for path in paths for row in file_rows(path)) for split, paths in files.items()}
    return _data_set(location, format_name, splits, _fingerprint(files), task, seed)


def _data_set(
    location: str,
    format_name: str,
    splits: Mapping[str, Iterable[tuple[str, Row]]],
    fingerprint: str,
    task: str | None,
    seed: int,
) -> DataSet:
    reader = RowReader(find_task(task))
    read = {name: tuple(reader.example(row, where) for where, row in rows) for name, rows in splits.items()}
    train, validation = _train_and_validation(read, location, seed)
    return DataSet(
        train=train,
        validation=validation,
        test=read.get("test", ()),
        location=location,
        format=format_name,
        task=task,
        fingerprint=fingerprint,
    )


def _train_and_validation(
    read: Mapping[str, tuple[Example, ...]], location: str, seed: int
) -> tuple[tuple[Example, ...], tuple[Example, ...]]:
    train = read.get("train", ())
    if not train:
        raise LplanError(
            f"{location} holds no examples to train on", hint="a line that names columns is not one"
        )
    if "validation" in read:
        return train, read["validation"]
    return hold_out(train, seed=seed)


def _fingerprint(files: Mapping[str, Sequence[Path]]) -> str:
    digest = hashlib.sha256()
    for path in (path for paths in files.values() for path in paths):
        with readable(path), path.open("rb") as file:
            while block := file.read(2**20):
                digest.update(block)
    return digest.hexdigest()
