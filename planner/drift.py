"""What a change of library versions did to predictions and speed, as this machine's runs show it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean, median

from .history import RunRecord


@dataclass(frozen=True, kw_only=True, slots=True)
class Era:
    """Runs under one set of versions. `changed` are those that differ from the era before.

    Errors are shares of the measured peak, positive where the prediction was too high; `speed` is measured against
    predicted tokens per second, the median.
    """

    since: str
    changed: Mapping[str, str]
    runs: int
    mean_error: float
    lowest_error: float
    speed: float | None


def eras(records: Sequence[RunRecord]) -> tuple[Era, ...]:
    """Finished runs by the versions that they ran with, in order of their first run."""
    groups: dict[tuple[tuple[str, str], ...], list[RunRecord]] = {}
    for record in records:
        if record.verdict == "done" and record.error is not None:
            groups.setdefault(tuple(sorted(record.versions.items())), []).append(record)
    found: list[Era] = []
    before: Mapping[str, str] = {}
    for versions, runs in groups.items():
        changed = {name: version for name, version in versions if before.get(name) != version}
        found.append(_era(runs, changed))
        before = dict(versions)
    return tuple(found)


def _era(runs: Sequence[RunRecord], changed: Mapping[str, str]) -> Era:
    errors = [run.error for run in runs if run.error is not None]
    speeds = [
        run.measured_tokens_per_s / run.predicted_tokens_per_s
        for run in runs
        if run.measured_tokens_per_s and run.predicted_tokens_per_s
    ]
    return Era(
        since=runs[0].time,
        changed=changed,
        runs=len(runs),
        mean_error=mean(errors),
        lowest_error=min(errors),
        speed=median(speeds) if speeds else None,
    )
