"""A run's folder: what is in it, making it, and keeping a second run out of it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from ..planner.events import read
from ..profiles.errors import LplanError, UsageError

_LOCK = ".lock"
_CHECKPOINTS = "checkpoints"


@dataclass(frozen=True, slots=True)
class RunFolder:
    """plan.json, events.jsonl, worker.log, checkpoints/, adapter/ and report.html below `path`."""

    path: Path

    @property
    def plan(self) -> Path:
        """The plan as it is run."""
        return self.path / "plan.json"

    @property
    def events(self) -> Path:
        """Every sample and metric, one JSON object a line (planner.events)."""
        return self.path / "events.jsonl"

    @property
    def log(self) -> Path:
        """What the worker wrote to its standard output and error."""
        return self.path / "worker.log"

    @property
    def checkpoints(self) -> Path:
        """States to resume from."""
        return self.path / _CHECKPOINTS

    @property
    def adapter(self) -> Path:
        """The result: adapter weights with their configuration."""
        return self.path / "adapter"

    @property
    def report(self) -> Path:
        """The page about the run."""
        return self.path / "report.html"

    def recorded_s(self) -> float:
        """Until when a run that is resumed has been recorded: its time goes on from there. 0 for a new one."""
        return max((event.t_s for event in read(self.events)), default=0.0) if self.events.is_file() else 0.0

    @classmethod
    def create(cls, path: Path) -> RunFolder:
        """A new, empty run folder, with its parents.

        Raises UsageError if the folder holds something already or cannot be made or written; then
        everything made on the way is removed again.
        """
        _refuse_used(path)
        missing = [folder for folder in (path, *path.parents) if not folder.exists()]
        try:
            path.mkdir(parents=True, exist_ok=True)
            (path / _CHECKPOINTS).mkdir()
        except OSError as error:
            _remove_empty(missing)
            raise UsageError(
                f"cannot write the run folder {path}: {error.strerror or error}",
                hint="name another folder by --output",
            ) from error
        return cls(path)

    @property
    def is_locked(self) -> bool:
        """Whether a run is going on here; asked without leaving a trace."""
        import fcntl

        try:
            with (self.path / _LOCK).open() as holder:
                fcntl.flock(holder, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep other runs out while inside; the lock goes with the process, however it ends.

        Raises UsageError if another process has it, LplanError if the folder cannot be written.
        """
        import fcntl

        try:
            holder = (self.path / _LOCK).open("a")
        except OSError as error:
            raise LplanError(f"cannot write the run folder {self.path}: {error.strerror}") from error
        with holder:
            try:
                fcntl.flock(holder, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise UsageError(
                    f"another run is going on in {self.path}", hint="name another folder by --output"
                ) from error
            yield


def default_path(model: str, now: datetime | None = None, base: Path = Path("runs")) -> Path:
    """Where a run goes if the user names no folder: runs/2026-11-23-1830-smollm2, numbered if taken."""
    stamp = (now or datetime.now()).strftime("%Y-%m-%d-%H%M")
    short = re.sub(r"[^a-z0-9.]+", "-", model.rstrip("/").rpartition("/")[2].lower()).strip("-.")
    path = first = base / f"{stamp}-{short or 'model'}"
    number = 2
    while path.exists():
        path = first.with_name(f"{first.name}-{number}")
        number += 1
    return path


def _refuse_used(path: Path) -> None:
    try:
        used = path.is_dir() and any(entry.name != _LOCK for entry in path.iterdir())
    except OSError as error:
        raise UsageError(f"cannot read the run folder {path}: {error.strerror}") from error
    if used:
        raise UsageError(
            f"the run folder {path} is not empty", hint="name another folder by --output, or remove this one"
        )
    if path.exists() and not path.is_dir():
        raise UsageError(f"{path} is a file, not a folder", hint="name another folder by --output")


def _remove_empty(folders: list[Path]) -> None:
    """Remove what `create` made, innermost first; a folder that someone else filled meanwhile stays."""
    for folder in folders:
        with suppress(OSError):
            folder.rmdir()
