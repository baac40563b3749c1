"""Why each knob has its value: the chosen candidate against its neighbours, one knob changed at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

from ..profiles.units import format_size
from .plan import Decision, Rejected
from .recipe import Recipe
from .search import FLOATING, Candidate, Found, Task

_NAMES: Mapping[str, str] = {
    "batch_size": "micro batch",
    "accumulation": "gradient accumulation",
    "seq_len": "sequence length",
    "input_casting": "adapter input casting",
    "adapter_dtype": "adapter dtype",
    "target_modules": "target modules",
}
_ALWAYS_SAME: Mapping[str, str] = {
    "input_casting": "fp32 adapters whose weights are cast instead of their inputs: same master weights, "
    "no fp32 copy of every input",
    "optimizer": "the fused kernel makes no temporaries; transformers' own default",
}


def decide(task: Task, found: Found) -> tuple[Decision, ...]:
    """One decision for every knob of the chosen recipe that can be explained, the floating ones first."""
    decisions = [_floating(task, found, knob) for knob in FLOATING]
    return (*decisions, *_settled(task, found.chosen))


def knob_name(knob: str) -> str:
    """A knob as people read it."""
    return _NAMES.get(knob, knob.replace("_", " "))


def _floating(task: Task, found: Found, knob: str) -> Decision:
    chosen = found.chosen
    value = _text(knob, chosen.recipe)
    if knob in task.given:
        return Decision(knob=knob_name(knob), value=value, reason="as asked", given=True)
    rejected = tuple(_rejected(chosen, other, knob) for other in _neighbours(found, knob))
    return Decision(
        knob=knob_name(knob), value=value, reason=_reason(chosen, knob, rejected), rejected=rejected
    )


def _neighbours(found: Found, knob: str) -> list[Candidate]:
    """Candidates that differ from the chosen one in this knob alone (the effective batch is kept)."""
    tied = {knob, "accumulation"} if knob == "batch_size" else {knob}
    names = [field.name for field in fields(Recipe) if field.name not in tied]
    chosen = found.chosen

    def same(other: Candidate) -> bool:
        return all(getattr(other.recipe, name) == getattr(chosen.recipe, name) for name in names)

    return [
        c for c in found.candidates if same(c) and getattr(c.recipe, knob) != getattr(chosen.recipe, knob)
    ]


def _rejected(chosen: Candidate, other: Candidate, knob: str) -> Rejected:
    budget = other.estimate.budget.budget_bytes
    if not other.fits:
        return Rejected(
            value=_text(knob, other.recipe),
            reason=f"needs {format_size(other.required_bytes)} of {format_size(budget)}",
        )
    slower = other.time.step_s / chosen.time.step_s - 1
    if slower >= _NOTICEABLE:
        return Rejected(value=_text(knob, other.recipe), reason=f"{slower:.0%} slower")
    more = other.required_bytes - chosen.required_bytes
    return Rejected(
        value=_text(knob, other.recipe),
        reason=f"no faster, {format_size(more)} more" if more > 0 else "no faster",
    )


_NOTICEABLE = 0.005


def _reason(chosen: Candidate, knob: str, rejected: tuple[Rejected, ...]) -> str:
    if knob in _ALWAYS_SAME:
        return _ALWAYS_SAME[knob]
    if not chosen.fits:
        return "needs least memory, and still too much"
    if not rejected:
        return "the only choice here"
    if any(" of " in r.reason for r in rejected):
        return "the fastest that fits"
    return _FASTEST.get(knob, "the fastest here; all would fit")


_FASTEST = {
    "checkpointing": "all activations fit, so nothing is computed twice",
    "precision": "measured on this machine's own matrix products",
    "loss": "only positions with loss need logits",
}


def _settled(task: Task, chosen: Candidate) -> list[Decision]:
    recipe, lengths = chosen.recipe, task.lengths
    reasons: Mapping[str, str] = {
        "accumulation": f"keeps the effective batch at {recipe.effective_batch}",
        "seq_len": "the longest sequence in the data; nothing is cut"
        if lengths is not None and not lengths.truncated
        else f"the limit; {lengths.truncated if lengths else 0} sequences are cut to it",
        "adapter_dtype": "16-bit adapters lose small updates to rounding"
        if recipe.adapter_dtype == "fp32"
        else "",
        "threads": "one for each usable core",
    }
    return [
        Decision(
            knob=knob_name(knob),
            value=_text(knob, recipe),
            reason="as asked" if knob in task.given else reason,
            given=knob in task.given,
        )
        for knob, reason in reasons.items()
        if not (knob == "seq_len" and lengths is None and knob not in task.given)
    ]


def _text(knob: str, recipe: Recipe) -> str:
    value: Any = getattr(recipe, knob)
    show: Callable[[Any], str] = {bool: lambda v: "on" if v else "off", tuple: ", ".join}.get(
        type(value), str
    )
    return show(value)
