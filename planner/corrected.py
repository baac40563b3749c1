"""A plan corrected by what its run needed: smaller after it died for memory, or as large as a rehearsal allows.

Micro batch, checkpointing and loss path may change; the effective batch, and so what is learned, does not.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from ..profiles.errors import LplanError
from ..profiles.units import format_size
from .estimate import REHEARSAL, Estimate, PhaseEstimate, with_rehearsal
from .estimating import Situation
from .plan import Decision, Plan
from .pricer import Candidate
from .recipe import Recipe
from .search import EQUALLY_FAST, price_all
from .setting import rates_of
from .task import Task
from .tokens import TokenLengths
from .tracer import baseline

_CHECKPOINTING = ("none", "every-2", "full")
_LOSSES = ("full", "supervised", "chunked")
_LEAST_EXCESS = 0.05
"""A kill tells only that more was needed than there was: by so much of that, each time, at least."""
_LEAST_DOUBT = 0.2
"""Of an estimate's range, what a measurement of the same model leaves of it."""
_CORRECTED = ("first step", "steady step", "evaluation", "save")


@dataclass(frozen=True, kw_only=True, slots=True)
class Failure:
    """An attempt that died for memory: in which phase (None: unknown), and how much there was."""

    recipe: Recipe
    phase: str | None
    had_bytes: int


def smaller_plan(plan: Plan, failures: Sequence[Failure], lengths: TokenLengths | None) -> Plan | None:
    """The fastest plan that fits with what the failed attempts needed beyond their estimates.

    Each of them must have needed more than it in the phase in which it failed. Where none fits, the leanest of
    these. None when nothing needs less. Raises LplanError when nothing can be traced.
    """
    task = _task(plan, lengths)
    failed = list(dict.fromkeys(failure.recipe for failure in failures))
    others = [recipe for recipe in _variants(plan.recipe, frozenset()) if recipe not in failed]
    priced = _priced(task, [*failed, *others])
    known = [failure for failure in failures if failure.recipe in priced]
    leaner = [
        priced[recipe]
        for recipe in others
        if recipe in priced
        and plan.recipe.batch_size % recipe.batch_size == 0
        and all(_needs_less(priced[recipe].estimate, priced[f.recipe].estimate, f.phase) for f in known)
    ]
    if not leaner:
        return None
    excess_bytes = max(
        (_excess_bytes(f, priced[f.recipe].estimate, n) for n, f in enumerate(known, 1)), default=0
    )
    most_bytes = min([plan.estimate.budget.budget_bytes, *(failure.had_bytes for failure in failures)])
    fitting = [one for one in leaner if one.required_bytes + excess_bytes <= most_bytes]
    why = f"there was {format_size(most_bytes)}"
    if excess_bytes:
        why += f", and attempt {len(failures)} needed at least {format_size(excess_bytes)} more than its plan"
    if fitting:
        chosen = min(fitting, key=_step_s)
        return _changed(plan, chosen, shifted(chosen.estimate, excess_bytes), _AFTER_A_DEATH, why)
    chosen = min(leaner, key=lambda one: one.required_bytes)
    return _changed(plan, chosen, chosen.estimate, _AFTER_A_DEATH, f"{why}; this needs least")


def rehearsed_plan(
    plan: Plan, measured_bytes: int, lengths: TokenLengths | None, given: Collection[str] | None
) -> Plan | None:
    """A better plan than one whose rehearsal needed so much; None if it stays.

    Too little room for what comes after the rehearsal makes it smaller. Room that is left is used only where
    `given` is not None: by the fastest plan that keeps these knobs. Raises LplanError when nothing can be traced.
    """
    task = _task(plan, lengths)
    once = _priced(task, [replace(plan.recipe, length_buckets=1), plan.recipe])
    if len(once) < len({replace(plan.recipe, length_buckets=1), plan.recipe}):
        return None
    alike, now = once[replace(plan.recipe, length_buckets=1)], once[plan.recipe]
    # The rehearsal sees the longest sequences alone, so that no kernels are kept for others.
    offset_bytes = measured_bytes - _rehearsal(alike.estimate).peak.expected_bytes
    budget_bytes = plan.estimate.budget.budget_bytes
    expected_bytes = shifted(now.estimate, offset_bytes).peak.peak.expected_bytes
    too_little = expected_bytes > budget_bytes
    if not too_little and given is None:
        return None
    recipes = _variants(plan.recipe, frozenset() if too_little else frozenset(given or ()))
    found = [
        (one, corrected)
        for one in _priced(task, [recipe for recipe in recipes if recipe != plan.recipe]).values()
        if (corrected := _measured(one.estimate, now.estimate, offset_bytes)).fits
        and (too_little or _step_s(one) < _step_s(now) / (1 + EQUALLY_FAST))
    ]
    if not found:
        return None
    chosen, corrected = min(found, key=lambda pair: _step_s(pair[0]))
    if too_little:
        why = f"the rehearsal needed {format_size(offset_bytes)} more than planned"
        return _changed(plan, chosen, corrected, _AFTER_THE_REHEARSAL, why)
    why = (
        f"the rehearsal left {format_size(budget_bytes - expected_bytes)}; "
        f"{_step_s(chosen):.2g} s a step instead of {_step_s(now):.2g} s"
    )
    return _changed(plan, chosen, corrected, _AFTER_THE_REHEARSAL, why)


_AFTER_A_DEATH, _AFTER_THE_REHEARSAL = "after running out of memory", "after the rehearsal"


def shifted(estimate: Estimate, offset_bytes: int) -> Estimate:
    """The estimate with so much more (or less) in every phase from the first step on, as was measured."""
    phases = tuple(_shifted(p, offset_bytes) if p.name in _CORRECTED else p for p in estimate.phases)
    before = {name: estimate.offsets.get(name, 0) for name in (*estimate.offsets, *_CORRECTED)}
    offsets = {name: more + (offset_bytes if name in _CORRECTED else 0) for name, more in before.items()}
    return replace(estimate, phases=phases, offsets=offsets)


def _shifted(phase: PhaseEstimate, offset_bytes: int) -> PhaseEstimate:
    peak, parts = phase.peak, dict(phase.components)
    offset_bytes = max(offset_bytes, -peak.low_bytes)
    # What the process needs besides tensors is the surest to be off; what it cannot give comes from the largest parts.
    left = offset_bytes
    for name in dict.fromkeys(("runtime", *sorted(parts, key=lambda part: -parts[part]))):
        given = max(left, -parts.get(name, 0))
        parts[name] = parts.get(name, 0) + given
        left -= given
    return replace(
        phase,
        peak=replace(
            peak,
            low_bytes=peak.low_bytes + offset_bytes,
            expected_bytes=peak.expected_bytes + offset_bytes,
            high_bytes=peak.high_bytes + offset_bytes,
        ),
        components=parts,
        anonymous_bytes=max(0, phase.anonymous_bytes + offset_bytes) if phase.cuda is None else 0,
        cuda=None
        if phase.cuda is None
        else replace(
            phase.cuda,
            reserved_bytes=phase.cuda.reserved_bytes + offset_bytes,
            process_bytes=phase.cuda.process_bytes + offset_bytes,
        ),
    )


def _measured(estimate: Estimate, known: Estimate, offset_bytes: int) -> Estimate:
    """A shifted estimate whose range is as wide as it differs from the one that was measured."""
    expected, measured = estimate.peak.peak.expected_bytes, known.peak.peak.expected_bytes
    share = min(1.0, max(_LEAST_DOUBT, abs(expected - measured) / measured))
    whole = shifted(estimate, offset_bytes)
    return replace(
        whole, phases=tuple(_narrowed(p, share) if p.name in _CORRECTED else p for p in whole.phases)
    )


def _narrowed(phase: PhaseEstimate, share: float) -> PhaseEstimate:
    peak = phase.peak
    low = peak.expected_bytes - int((peak.expected_bytes - peak.low_bytes) * share)
    high = peak.expected_bytes + int((peak.high_bytes - peak.expected_bytes) * share)
    return replace(phase, peak=replace(peak, low_bytes=low, high_bytes=high))


def _excess_bytes(failure: Failure, estimate: Estimate, number: int) -> int:
    """What the `number`th failure needed at least beyond its estimate."""
    return max(
        0,
        int(failure.had_bytes * (1 + _LEAST_EXCESS * number))
        - _of(estimate, failure.phase).peak.expected_bytes,
    )


def _needs_less(one: Estimate, other: Estimate, phase: str | None) -> bool:
    return _of(one, phase).required_bytes < _of(other, phase).required_bytes


def _of(estimate: Estimate, phase: str | None) -> PhaseEstimate:
    """A phase of an estimate; for one that it does not have the one that needs most."""
    phases = with_rehearsal(estimate.phases)
    return next((one for one in phases if one.name == phase), estimate.peak)


def _rehearsal(estimate: Estimate) -> PhaseEstimate:
    return _of(estimate, REHEARSAL)


def _step_s(candidate: Candidate) -> float:
    return candidate.time.step_s


def _changed(plan: Plan, chosen: Candidate, estimate: Estimate, knob: str, why: str) -> Plan:
    recipe = chosen.recipe
    value = f"{recipe.batch_size} × {recipe.accumulation}, checkpointing {recipe.checkpointing}, {recipe.loss} loss"
    decision = Decision(knob=knob, value=value, reason=why)
    time = chosen.time if plan.time is None else replace(
        chosen.time, steps=plan.time.steps, total_s=plan.time.steps * chosen.time.step_s
    )  # fmt: skip
    return replace(plan, recipe=recipe, estimate=estimate, time=time, decisions=(*plan.decisions, decision))


def _task(plan: Plan, lengths: TokenLengths | None) -> Task:
    """What the plan was made for, as far as the plan knows."""
    before = plan.estimate
    situation = Situation(
        model=before.model, hardware=before.hardware, budget=before.budget, baseline=baseline(),
        versions=before.versions, texts=before.texts,
    )  # fmt: skip
    return Task(
        situation=situation,
        start=plan.recipe,
        given=frozenset(),
        schedule=plan.schedule,
        lengths=lengths,
        rates=rates_of(situation, plan.recipe.threads),
    )


def _priced(task: Task, recipes: Sequence[Recipe]) -> dict[Recipe, Candidate]:
    """Those that the libraries take."""
    answers = price_all(task, list(dict.fromkeys(recipes)))
    return {one.recipe: one for one in answers if isinstance(one, Candidate)}


def _variants(recipe: Recipe, given: frozenset[str]) -> Iterator[Recipe]:
    """The recipe with every micro batch, checkpointing and loss path; the effective batch and `given` knobs stay."""
    effective = recipe.effective_batch
    choices: dict[str, Sequence[Any]] = {
        "batch_size": [n for n in range(1, effective + 1) if effective % n == 0],
        "checkpointing": _CHECKPOINTING,
        "loss": _LOSSES,
    }
    if "accumulation" in given:
        given |= {"batch_size"}
    floating = {
        knob: (getattr(recipe, knob),) if knob in given else values for knob, values in choices.items()
    }
    for batch, checkpointing, loss in product(*floating.values()):
        try:
            yield replace(
                recipe,
                batch_size=batch,
                accumulation=effective // batch,
                checkpointing=checkpointing,
                loss=loss,
            )
        except LplanError:
            continue
