"""What a plan is to be best at, and what may be changed for it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args

from ..profiles.errors import UsageError

Objective = Literal["fastest", "longest", "largest-batch", "least-memory", "quality"]
Change = Literal["rank", "targets", "quantization", "truncation"]
"""What changes the training objective, the least change first."""
CHANGES: tuple[Change, ...] = get_args(Change)
_SAME_KNOB: dict[str, Change] = {
    "rank": "rank",
    "target_modules": "targets",
    "targets": "targets",
    "quantization": "quantization",
    "seq_len": "truncation",
    "truncation": "truncation",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Aim:
    """`keep` names floating knobs that stay at their usual values; `allow` what may change the training objective."""

    objective: Objective = "fastest"
    keep: frozenset[str] = frozenset()
    allow: tuple[Change, ...] = ()


def make_aim(
    objective: Objective | None, keep: Iterable[str], allow: str | None, floating: Iterable[str]
) -> Aim:
    """The aim of the flags: `keep` as knobs' names with dashes, `allow` as changes; both may be joined by commas.

    Raises UsageError for a name that floats nowhere, and for one that is kept and allowed at once.
    """
    kept = {name.replace("-", "_") for text in keep for name in _parts(text)}
    known = {*floating, *_SAME_KNOB}
    for name in sorted(kept - known):
        raise UsageError(
            f"--keep {_dashed(name)!r}: no such knob is chosen",
            hint=f"one of: {', '.join(sorted(map(_dashed, known)))}",
        )
    allowed = _parts(allow or "")
    for name in allowed:
        if name not in CHANGES:
            raise UsageError(f"--allow {name!r} is unknown", hint=f"one of: {', '.join(CHANGES)}")
        if name in {_SAME_KNOB.get(knob) for knob in kept}:
            raise UsageError(
                f"--keep and --allow exclude each other for {name}", hint="leave one of them out"
            )
    return Aim(
        objective=objective or "fastest",
        keep=frozenset(kept),
        allow=tuple(change for change in CHANGES if change in allowed),
    )


def _parts(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _dashed(knob: str) -> str:
    return knob.replace("_", "-")
