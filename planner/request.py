"""From what a user asked for to a complete recipe: given knobs stay, the rest takes its usual default."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from ..profiles.errors import UsageError
from ..profiles.hardware import Budget, Hardware
from ..profiles.units import format_size
from .recipe import ALL_LINEAR, ATTENTION, Recipe
from .runtime import Baseline
from .tokens import TokenLengths, round_up

_USUAL_LENGTH = 512
_NOT_YET: Mapping[str, Mapping[str, str]] = {
    "method": {"qlora": "4-bit base weights are slower and no smaller in practice on a CPU"},
    "precision": {"fp16": "CPUs compute bf16 or fp32", "fp16-amp": "CPUs compute bf16 or fp32"},
    "attention": {"flash": "the flash-attention package needs a GPU"},
    "padding": {"packed": "packed batches are not planned yet"},
}
_ONLY_NONE = ("quantization", "offload", "kbit_preparation")


@dataclass(frozen=True, slots=True)
class Request:
    """A complete recipe, and which of its knobs the user named."""

    recipe: Recipe
    given: frozenset[str]


def make_request(
    asked: Mapping[str, Any], hardware: Hardware, lengths: TokenLengths | None = None
) -> Request:
    """The recipe of the knobs that were asked for (None: not asked).

    `effective_batch` and `target_modules` (a comma-separated text) are understood besides Recipe's own names.
    Raises UsageError for what cannot be, or is not available on a CPU.
    """
    _refuse_unavailable(asked)
    known = {name: value for name, value in asked.items() if value is not None and name not in _ONLY_NONE}
    effective = known.pop("effective_batch", None)
    if "target_modules" in known:
        known["target_modules"] = _targets(known["target_modules"])
    recipe = replace(_defaults(hardware, lengths), **known)
    if effective is not None:
        recipe = _with_effective_batch(recipe, int(effective), known)
    return Request(recipe, frozenset(known))


def _defaults(hardware: Hardware, lengths: TokenLengths | None) -> Recipe:
    start = Recipe(threads=max(1, hardware.cores))
    if lengths is None:
        return replace(start, seq_len=_USUAL_LENGTH, supervised_len=_USUAL_LENGTH)
    padded = len(set(lengths.total)) > 1
    multiple = lengths.bucket()
    return replace(
        start,
        seq_len=round_up(lengths.longest, multiple),
        pad_to_multiple_of=multiple,
        length_buckets=lengths.buckets(multiple),
        supervised_len=lengths.longest_supervised,
        padding="padded" if padded else "none",
    )


def _with_effective_batch(recipe: Recipe, effective: int, known: Mapping[str, Any]) -> Recipe:
    if effective < 1:
        raise UsageError(f"--effective-batch must be at least 1, not {effective}")
    batch = recipe.batch_size if "batch_size" in known else min(recipe.batch_size, effective)
    if effective % batch:
        raise UsageError(
            f"an effective batch of {effective} is no multiple of the micro batch {batch}",
            hint="choose --batch-size as a divisor of --effective-batch",
        )
    return replace(recipe, batch_size=batch, accumulation=effective // batch)


def _targets(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    if not names:
        raise UsageError("--target-modules names nothing", hint="try attention, all-linear or q_proj,v_proj")
    return {"attention": ATTENTION, "all-linear": ALL_LINEAR}.get(text, names)


def _refuse_unavailable(asked: Mapping[str, Any]) -> None:
    for knob, values in _NOT_YET.items():
        if asked.get(knob) in values:
            raise UsageError(f"--{knob} {asked[knob]} is not available: {values[asked[knob]]}")
    for knob in _ONLY_NONE:
        value = asked.get(knob)
        if value not in (None, (), "none", "off", ("none",)):
            shown = ", ".join(value) if isinstance(value, tuple) else value
            raise UsageError(
                f"--{knob.replace('_', '-')} {shown} is not available on a CPU yet", hint="leave it at none"
            )


def require_cpu(budget: Budget) -> None:
    """Raises UsageError for a budget on a GPU: this version plans for CPUs."""
    if budget.device == "cuda":
        raise UsageError(
            "runs on a GPU cannot be planned yet: this version is exact for CPUs only",
            hint="give --ram, or name a CPU machine: lplan doctor --list",
        )


def require_room(budget: Budget, baseline: Baseline) -> None:
    """Raises UsageError for a budget that the libraries alone exceed."""
    needed = baseline.anonymous_bytes + baseline.file_bytes
    if budget.budget_bytes < needed:
        raise UsageError(
            f"{format_size(budget.budget_bytes)} is less than the training libraries need before any model "
            f"is loaded ({format_size(needed)})",
            hint=f"give at least {format_size(2 * needed)}",
        )
