"""Why each knob has its value: the chosen candidate against its neighbours, one knob changed at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..profiles.machine import THIS_MACHINE
from ..profiles.units import format_size
from .floating import FLOATING
from .plan import Decision, Rejected
from .pricer import Candidate
from .recipe import Recipe
from .search import EQUALLY_FAST, Found, differing
from .settled import settled
from .task import Task

_NAMES: Mapping[str, str] = {
    "batch_size": "micro batch",
    "input_casting": "adapter input casting",
}
_CHANGED = "changes what is learned: nothing fits without, and --allow opens it"
_TIMES = 2.0
"""From here on "× slower" reads better than per cent."""


def decide(task: Task, found: Found) -> tuple[Decision, ...]:
    """One decision for every knob that the search could set, then those that follow from data, task and machine."""
    knobs = [knob for knob in FLOATING if knob != "input_casting" or task.start.adapts]
    return (
        *_aim(task, found),
        *(_floating(task, found, knob) for knob in knobs),
        *settled(task, found.chosen),
    )


def _aim(task: Task, found: Found) -> Iterator[Decision]:
    """What the plan is to be best at, and what was changed of the training objective for it."""
    if task.aim.objective != "fastest":
        yield Decision(knob="objective", value=task.aim.objective, reason="as asked", given=True)
    recipe = found.chosen.recipe
    values = {
        "rank": f"r {recipe.rank}",
        "targets": ", ".join(recipe.target_modules),
        "quantization": recipe.quantization,
        "truncation": f"{recipe.seq_len} tokens",
    }
    for change in found.changes:
        yield Decision(knob=change, value=values[change], reason=_CHANGED)


def _floating(task: Task, found: Found, knob: str) -> Decision:
    chosen = found.chosen
    name, value = _NAMES.get(knob, knob.replace("_", " ")), _text(knob, chosen.recipe)
    if knob in task.given or knob in task.aim.keep:
        kept = "as asked" if knob in task.given else "kept, as asked"
        return Decision(knob=name, value=value, reason=kept, given=True)
    others = _neighbours(found, knob)
    return Decision(
        knob=name,
        value=value,
        reason=_reason(task, chosen, knob, others),
        rejected=tuple(_rejected(chosen, other, knob) for other in others),
    )


@dataclass(frozen=True, slots=True)
class _Other:
    """What was not chosen: priced, or ruled out by what it needs at least."""

    recipe: Recipe
    step_s: float
    required_bytes: int
    fits: bool | None
    """None where it was too slow to matter."""
    time_is_least: bool = False
    bytes_are_least: bool = False


def _neighbours(found: Found, knob: str) -> list[_Other]:
    """Recipes that differ from the chosen one in this knob alone (the effective batch is kept)."""
    chosen = found.chosen
    budget = chosen.estimate.budget.budget_bytes
    priced = {candidate.recipe: candidate for candidate in found.candidates}
    others = []
    for recipe in dict.fromkeys((*found.bounds, *priced)):
        if differing(recipe, chosen.recipe) != {knob}:
            continue
        if recipe in priced:
            one = priced[recipe]
            others.append(_Other(recipe, one.time.step_s, one.required_bytes, one.fits))
        else:
            bound = found.bounds[recipe]
            fits = False if bound.least_bytes > budget else None
            others.append(
                _Other(recipe, bound.least_s, bound.least_bytes, fits, not bound.traced, bytes_are_least=True)
            )
    return others


def _rejected(chosen: Candidate, other: _Other, knob: str) -> Rejected:
    return Rejected(value=_text(knob, other.recipe), reason=_against(chosen, other))


def _against(chosen: Candidate, other: _Other) -> str:
    at_least = "at least " if other.bytes_are_least else ""
    if other.fits is False:
        budget = format_size(chosen.estimate.budget.budget_bytes)
        return f"needs {at_least}{format_size(other.required_bytes)} of {budget}"
    if _is_slower(chosen, other):
        return ("at least " if other.time_is_least else "") + slower(other.step_s / chosen.time.step_s)
    more = other.required_bytes - chosen.required_bytes
    if other.step_s * (1 + EQUALLY_FAST) < chosen.time.step_s:
        return f"faster, {at_least}{format_size(max(0, more))} more"
    return f"as fast, {at_least}{format_size(more)} more" if more > 0 else "as fast"


def slower(ratio: float) -> str:
    """How much longer something takes: "37 % slower", "2.4 × slower", "13 × slower"."""
    if ratio < _TIMES:
        return f"{ratio - 1:.0%} slower".replace("%", " %")
    return f"{ratio:.1f} × slower" if ratio < 9.95 else f"{ratio:.0f} × slower"


def _is_slower(chosen: Candidate, other: _Other) -> bool:
    return other.step_s > chosen.time.step_s * (1 + EQUALLY_FAST)


def _reason(task: Task, chosen: Candidate, knob: str, others: Sequence[_Other]) -> str:
    if knob in _INHERENT:
        return _INHERENT[knob](chosen.recipe)
    if knob == "precision" and not others and task.aim.objective != "quality":
        return _why_precision(task, chosen.recipe)
    if not others and (task.aim.objective, knob) in _PREFERRED:
        return _PREFERRED[(task.aim.objective, knob)]
    if not others:
        return _ALONE.get((knob, _text(knob, chosen.recipe)), "the only choice here")
    if not chosen.fits:
        return "needs least memory, and still too much"
    if (task.aim.objective, knob) in _PREFERRED:
        return _PREFERRED[(task.aim.objective, knob)]
    if task.aim.objective == "least-memory":
        return "needs least memory"
    if any(other.fits is False for other in others):
        return "the fastest that fits"
    as_fast = [other for other in others if not _is_slower(chosen, other)]
    if as_fast:
        smallest = all(chosen.required_bytes <= other.required_bytes for other in as_fast)
        return f"as fast as any here{', and needs least of those' if smallest else '; all would fit'}"
    known = all(other.fits for other in others)
    return _because(task, knob, chosen.recipe) or f"the fastest here{'; all would fit' if known else ''}"


_PREFERRED = {
    ("largest-batch", "batch_size"): "the largest that fits and divides the effective batch",
    ("quality", "precision"): "the highest precision that fits",
}
_ALONE = {
    ("allocator", "default"): "PyTorch's own default",
    ("allocator", "expandable"): "nothing fits without: segments that grow leave fewer holes",
}


def _casting(recipe: Recipe) -> str:
    if recipe.quantization != "none":
        return "PEFT's adapters of quantized layers cast their inputs themselves"
    if recipe.adapter_dtype == "base" or recipe.precision == "fp32":
        return "adapters and inputs have the same dtype: there is nothing to cast"
    return "adapters are cast, not their inputs: same fp32 master weights, no fp32 copy of every input"


_INHERENT: Mapping[str, Callable[[Recipe], str]] = {
    "input_casting": _casting,
    "optimizer": lambda _: "the fused kernel makes no temporaries; transformers' own default",
}


def _because(task: Task, knob: str, recipe: Recipe) -> str | None:
    """What makes a value the fastest although all would fit, where more than that can be said."""
    if knob == "checkpointing" and recipe.checkpointing == "none":
        return "all activations fit, so nothing is computed twice"
    if knob == "precision":
        return _why_precision(task, recipe)
    if knob == "loss" and recipe.loss == "supervised" and recipe.supervised_len < recipe.seq_len:
        return "only positions with loss need logits"
    return None


def _why_precision(task: Task, recipe: Recipe) -> str:
    hardware = task.situation.hardware
    if recipe.device == "cuda":
        fastest = "the tensor cores' own dtype" if "bf16" in recipe.precision else "tensor cores without bf16"
        return f"{fastest} on {hardware.gpus[0].name}"
    if recipe.precision == "fp32" and hardware.name != THIS_MACHINE and not hardware.computes_bf16:
        return f"{hardware.name} has no bf16 instructions"
    return "faster in this machine's own matrix products, as measured"


def _text(knob: str, recipe: Recipe) -> str:
    value: Any = getattr(recipe, knob)
    return ("on" if value else "off") if isinstance(value, bool) else str(value)
