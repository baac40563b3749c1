"""What this machine's own runs say of the estimates' process part: an offset for each phase.

Tensors are exact, so what is left of an error is the process around them: libraries, kernels, pages. It is the same
number of bytes for every run of a machine and a set of versions, and is learned as the median of the residuals.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean, median
from typing import TYPE_CHECKING, Any

from .data_folder import data_folder
from .versions import stack_versions

if TYPE_CHECKING:
    from .history import RunRecord

FEWEST_RUNS = 3
_FILE = "calibration.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class Calibration:
    """Bytes to add to each phase's expected peak, and the runs that say so."""

    offsets: Mapping[str, int]
    runs: int
    machine: str
    versions: Mapping[str, str]

    @property
    def applies(self) -> bool:
        """Whether it was made on this machine with these versions."""
        return self.machine == platform.node() and dict(self.versions) == dict(stack_versions())


@dataclass(frozen=True, kw_only=True, slots=True)
class Trial:
    """Mean |error| of the peak on runs left out, as shares: as estimated, and with the others' offsets."""

    runs: int
    before: float
    after: float

    @property
    def helps(self) -> bool:
        """Whether runs that had no part in it are predicted better."""
        return self.after < self.before


def usable(records: Sequence[RunRecord]) -> tuple[RunRecord, ...]:
    """Runs that tell of this machine as it is: done, on the CPU, with the versions of today."""
    here, versions = platform.node(), dict(stack_versions())
    return tuple(
        r
        for r in records
        if r.verdict == "done"
        and r.measured_bytes
        and r.machine == here
        and r.recipe.get("device") == "cpu"
        and dict(r.versions) == versions
    )


def fit(records: Sequence[RunRecord]) -> Calibration:
    """The offsets of these runs. Raises ValueError for none."""
    if not records:
        raise ValueError("no runs")
    names = dict.fromkeys(name for record in records for name in record.phases)
    return Calibration(
        offsets={name: _offset(records, name) for name in names},
        runs=len(records),
        machine=records[-1].machine,
        versions=dict(records[-1].versions),
    )


def leave_one_out(records: Sequence[RunRecord]) -> Trial:
    """How runs are predicted by offsets that they had no part in. Raises ValueError for fewer than two."""
    if len(records) < 2:
        raise ValueError("a run can only be left out of several")
    before = [abs(_error(record, {})) for record in records]
    after = [
        abs(_error(record, fit([*records[:place], *records[place + 1 :]]).offsets))
        for place, record in enumerate(records)
    ]
    return Trial(runs=len(records), before=mean(before), after=mean(after))


def keep(calibration: Calibration, folder: Path | None = None) -> None:
    """Apply it to estimates from now on. Raises OSError."""
    folder = folder or data_folder()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _FILE).write_text(json.dumps(asdict(calibration), indent=1), encoding="utf-8")


def forget(folder: Path | None = None) -> bool:
    """Undo it; whether there was one. Raises OSError."""
    path = (folder or data_folder()) / _FILE
    existed = path.exists()
    path.unlink(missing_ok=True)
    return existed


def in_force(folder: Path | None = None) -> Calibration | None:
    """The calibration that estimates for this machine use; None without one, or with one of other versions."""
    try:
        data: Any = json.loads(((folder or data_folder()) / _FILE).read_text(encoding="utf-8"))
        found = Calibration(
            offsets={str(name): int(value) for name, value in data["offsets"].items()},
            runs=int(data["runs"]),
            machine=str(data["machine"]),
            versions=dict(data["versions"]),
        )
    except (AttributeError, KeyError, OSError, OverflowError, RecursionError, TypeError, ValueError):
        return None
    return found if found.applies else None


def _offset(records: Sequence[RunRecord], phase: str) -> int:
    return round(median(r.phases[phase][1] - r.uncalibrated(phase) for r in records if phase in r.phases))


def _error(record: RunRecord, offsets: Mapping[str, int]) -> float:
    predicted = max(record.uncalibrated(name) + offsets.get(name, 0) for name in record.phases)
    return predicted / record.measured_bytes - 1
