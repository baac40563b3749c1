"""What the parent hands the worker: a file, so that the worker needs nothing but its run folder."""

from __future__ import annotations

import json
import mmap
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from ..planner.plan import Schedule
from ..planner.recipe import Recipe
from ..profiles.errors import LplanError, UsageError
from ..profiles.typed import require_types
from .data.encoding import EncodedSet

JOB = "job.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class DeviceBudget:
    """What a run may use of its GPU, and what of that lies outside PyTorch's allocator, as planned."""

    budget_bytes: int
    context_bytes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """One training run, as the worker executes it."""

    model: str | None
    """What `from_pretrained` takes; None with `config` for a model that is made in memory."""
    config: Mapping[str, Any]
    trust_remote_code: bool
    recipe: Recipe
    schedule: Schedule
    pad_token_id: int
    checkpoint_steps: int
    """Optimizer steps between checkpoints; 0 for as often as time allows (trainer.reporter.Cadence)."""
    order_batch: int | None = None
    """The micro batch that the order of samples was drawn for, if it is not the recipe's own: a run that had
    to become smaller keeps it."""
    device: DeviceBudget | None = None
    """None on a CPU."""
    report_to: tuple[str, ...] = ()
    """Experiment trackers (trainer.trackers)."""
    rehearse: bool = False
    """Whether a step, an evaluation and a checkpoint are tried first (trainer.rehearsal)."""

    def write(self, folder: Path) -> None:
        """Write job.json."""
        data = {**asdict(self), "recipe": self.recipe.to_dict(), "config": dict(self.config)}
        (folder / JOB).write_text(json.dumps(data), encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> Job:
        """The job of a run folder. Raises LplanError where it is damaged, or another version of lplan wrote it."""
        try:
            data = json.loads((folder / JOB).read_text(encoding="utf-8"))
            data["recipe"] = Recipe.from_dict(data["recipe"])
            data["schedule"] = Schedule(**data["schedule"])
            data["report_to"] = tuple(data.get("report_to", ()))
            data["device"] = DeviceBudget(**data["device"]) if data["device"] else None
            job = cls(**data)
            require_types(job)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError, UsageError) as error:
            raise LplanError(
                f"{folder / JOB} cannot be read: {type(error).__name__}: {error}",
                hint="it is damaged, or of another version of lplan; train again",
            ) from error
        return job


@dataclass(frozen=True, slots=True)
class TokenFile:
    """Encoded samples on disk: flat int32 token ids, flat int8 loss marks, int64 offsets; read by mapping."""

    folder: Path
    name: str

    def write(self, encoded: EncodedSet) -> None:
        """Store a split."""
        for suffix, values in (("offsets", encoded.offsets), ("ids", encoded.ids), ("marks", encoded.marks)):
            self._path(suffix).write_bytes(values)

    def encoded(self) -> EncodedSet:
        """The split again, mapped, without what was said of it."""
        return EncodedSet(ids=self.ids(), marks=self.marks(), offsets=self.offsets(), truncated=0, dropped=0)

    def offsets(self) -> memoryview:
        """Where each sample begins, and the end."""
        return self._map("offsets", "q")

    def ids(self) -> memoryview:
        """Token ids of all samples."""
        return self._map("ids", "i")

    def marks(self) -> memoryview:
        """1 for tokens with loss."""
        return self._map("marks", "b")

    def _map(self, suffix: str, code: Literal["q", "i", "b"]) -> memoryview:
        """The numbers of a file, read-only, as pages of it that the kernel can drop; empty files cannot be mapped."""
        with self._path(suffix).open("rb") as file:
            empty = file.seek(0, os.SEEK_END) == 0
            pages = b"" if empty else mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return memoryview(pages).cast(code)

    def _path(self, suffix: str) -> Path:
        return self.folder / f"{self.name}.{suffix}.bin"
