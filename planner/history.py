"""Every run that ended on this machine: what was predicted of it, and what was measured."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from pathlib import Path
from typing import Any

from ..profiles.typed import require_types
from .data_folder import data_folder
from .events import Outcome, PhasePeak
from .plan import Plan

_SCHEMA = "lplan.run-record/1"
_FILE = "runs.jsonl"


@dataclass(frozen=True, kw_only=True, slots=True)
class RunRecord:
    """One run. `phases` holds (predicted, measured) bytes of each phase that was reached."""

    time: str
    """ISO 8601 wall-clock time of its end."""
    folder: str
    machine: str
    model: str
    verdict: str
    versions: Mapping[str, str]
    recipe: Mapping[str, Any]
    phases: Mapping[str, tuple[int, int]]
    offsets: Mapping[str, int]
    """What a calibration had added to the predictions (planner.calibration)."""
    steps: int
    predicted_tokens_per_s: float | None
    measured_tokens_per_s: float | None

    @property
    def predicted_bytes(self) -> int:
        """The largest prediction of a phase that was reached."""
        return max((predicted for predicted, _ in self.phases.values()), default=0)

    @property
    def measured_bytes(self) -> int:
        """The run's peak."""
        return max((measured for _, measured in self.phases.values()), default=0)

    @property
    def error(self) -> float | None:
        """The peak's prediction against its measurement, as a share; positive is too high."""
        return self.predicted_bytes / self.measured_bytes - 1 if self.measured_bytes else None

    def uncalibrated(self, phase: str) -> int:
        """A phase's prediction without what a calibration had added."""
        return self.phases[phase][0] - self.offsets.get(phase, 0)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {"schema": _SCHEMA, **asdict(self)}


def record_of(
    plan: Plan,
    peaks: Sequence[PhasePeak],
    outcome: Outcome,
    folder: Path,
    *,
    tokens_per_s: float | None,
    now: datetime | None = None,
) -> RunRecord:
    """What there is to remember of a run."""
    planned = {phase.name: phase.peak.expected_bytes for phase in plan.estimate.phases}
    return RunRecord(
        time=(now or datetime.now().astimezone()).isoformat(timespec="seconds"),
        folder=str(folder.resolve()),
        machine=platform.node(),
        model=plan.estimate.model.id,
        verdict=outcome.verdict,
        versions=dict(plan.estimate.versions),
        recipe=plan.recipe.to_dict(),
        phases={p.name: (planned[p.name], p.measured_bytes) for p in peaks if p.name in planned},
        offsets=dict(plan.estimate.offsets),
        steps=outcome.step or 0,
        predicted_tokens_per_s=plan.time.tokens_per_s if plan.time is not None else None,
        measured_tokens_per_s=tokens_per_s,
    )


def remember(record: RunRecord, folder: Path | None = None) -> bool:
    """Add a run to the store; whether it could be written, which is no reason to fail."""
    folder = folder or data_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / _FILE).open("a", encoding="utf-8") as file:
            file.write(json.dumps(record.to_dict()) + "\n")
    except OSError:
        return False
    return True


def past_runs(folder: Path | None = None) -> tuple[RunRecord, ...]:
    """All runs, the oldest first; lines that this version cannot read are passed over."""
    try:
        lines = ((folder or data_folder()) / _FILE).read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return ()
    return tuple(record for record in map(_record, lines) if record is not None)


def _record(line: str) -> RunRecord | None:
    try:
        data = json.loads(line)
        known = {field.name: data[field.name] for field in fields(RunRecord)}
        known["phases"] = {
            str(name): (int(predicted), int(measured))
            for name, (predicted, measured) in known["phases"].items()
        }
        record = RunRecord(**known)
        require_types(record)
    except (AttributeError, KeyError, OverflowError, RecursionError, TypeError, ValueError):
        return None
    return record
