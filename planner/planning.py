"""From a request to a plan: search, decide, and say what would help when nothing fits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from ..profiles.errors import LplanError, UsageError
from ..profiles.machine import THIS_MACHINE
from ..profiles.units import MIB, format_size
from .aim import Aim
from .deciding import decide
from .estimating import Situation
from .guidance import Case, advise
from .kernels import on_gpu
from .plan import DataReference, Plan
from .pricer import Candidate
from .recipe import Recipe
from .request import Request, fit_to_data, require_context
from .search import search
from .setting import rates_of
from .settled import warmup_steps
from .space import shorter
from .task import Task
from .tokens import TokenLengths
from .tracer import Progress

_LEANER: Mapping[str, Any] = {"batch_size": 1, "checkpointing": "full", "loss": "chunked", "method": "lora"}
"""The value of each knob that needs least, for knobs that the user may have set otherwise."""
_LEANER_ON: Mapping[str, Mapping[str, Any]] = {
    "cpu": {**_LEANER, "precision": "bf16", "allocator": "pinned"},
    "cuda": {**_LEANER, "allocator": "expandable"},
}


def plan_for(
    request: Request,
    situation: Situation,
    *,
    lengths: TokenLengths | None = None,
    data: DataReference | None = None,
    aim: Aim | None = None,
    progress: Progress | None = None,
) -> tuple[Task, Plan]:
    """The fastest plan that fits, or the closest one (`plan.estimate.fits` says which), and what it answers.

    Measures this machine unless that is done already.
    """
    task = task_for(request, situation, lengths, aim)
    return task, make_plan(task, data, progress)


def task_for(
    request: Request, situation: Situation, lengths: TokenLengths | None = None, aim: Aim | None = None
) -> Task:
    """What a plan is wanted for. Measures this machine unless that is done already."""
    require_context(situation.model, request.recipe.seq_len if "seq_len" in request.given else None)
    require_planned(request.recipe)
    if lengths is not None:
        request = fit_to_data(request, lengths)
    if request.recipe.device == "cuda":
        gpu = situation.hardware.gpus[0]
        request = replace(request, recipe=on_gpu(request.recipe, gpu, situation.model.config))
    return Task(
        situation=situation,
        start=request.recipe,
        given=request.given,
        schedule=request.schedule,
        lengths=lengths,
        rates=rates_of(situation, request.recipe.threads),
        aim=aim or Aim(),
    )


def require_planned(recipe: Recipe) -> None:
    """Raises UsageError for what estimates price, and no run of lplan does."""
    if recipe.eval_logits != "none":
        raise UsageError(
            "runs of lplan keep no logits of an evaluation: no plan is made for it",
            hint="leave out --eval-logits; `lplan estimate` prices it for other trainers",
        )
    if workers := recipe.tokenizing_workers or recipe.loader_workers:
        raise UsageError(
            f"runs of lplan have no worker processes for their data, not {workers}: no plan is made with them",
            hint="leave them out; `lplan estimate` prices them for other trainers",
        )
    if recipe.is_packed:
        raise UsageError(
            f"runs of lplan train no {recipe.quantization.upper()} base: no plan is made for it",
            hint="`lplan estimate` prices it; the model that was quantized can be planned with --method qlora",
        )


def make_plan(task: Task, data: DataReference | None, progress: Progress | None = None) -> Plan:
    """The plan of a task, with a reason for every choice."""
    found = search(task, progress)
    task = found.task
    recipe, time = found.chosen.recipe, found.chosen.time
    case = Case(
        recipe=recipe,
        schedule=task.schedule,
        trainable_parameters=found.chosen.estimate.trainable_parameters,
        steps=time.steps,
        lengths=task.lengths,
    )
    return Plan(
        recipe=recipe,
        schedule=replace(task.schedule, warmup_steps=warmup_steps(task, time.steps)),
        estimate=found.chosen.estimate,
        decisions=decide(task, found),
        time=time,
        data=data,
        guidance=advise(case),
    )


def misses_bytes(plan: Plan) -> int:
    """By how much a plan's high estimate exceeds its budget."""
    return plan.estimate.peak.required_bytes - plan.estimate.budget.budget_bytes


def what_would_help(task: Task, plan: Plan) -> tuple[str, ...]:
    """Changes that make the closest plan fit, each of them priced, in order of what they cost the result."""
    advice = [_larger_budget(plan)]
    advice += _leaner(task, plan)
    advice += _quantized(task, plan)
    advice += _shorter(task, plan)
    if plan.estimate.peak.components.get("weights", 0) > plan.estimate.budget.budget_bytes // 2:
        advice.append("a smaller model: `lplan models` lists some")
    return tuple(advice)


def _quantized(task: Task, plan: Plan) -> Iterator[str]:
    """4-bit base weights change what is learned, so they are never chosen silently."""
    recipe = plan.recipe
    if recipe.device == "cpu" or recipe.method != "lora":
        return
    changes = {"method": "qlora", "quantization": "nf4", "input_casting": True, "checkpointing": "full"}
    if _fits(task, _changed(recipe, {**changes, "batch_size": 1})):
        yield "4-bit base weights, which change the result a little: --method qlora"


def _larger_budget(plan: Plan) -> str:
    needed, hardware = plan.estimate.peak.required_bytes, plan.estimate.hardware
    if plan.recipe.device == "cuda":
        return f"a GPU with {format_size(needed)}"
    kept = 0 if hardware.name == THIS_MACHINE else hardware.reserve_bytes
    if needed > hardware.memory_bytes - kept:
        return f"a machine that leaves the run {format_size(needed)}"
    return f"a budget of {format_size(needed)}: --ram {-(-needed // MIB)}M"


def _leaner(task: Task, plan: Plan) -> Iterator[str]:
    """Given knobs that stand in the way: each alone if that is enough, else all together."""
    changes = {
        knob: value
        for knob, value in _LEANER_ON[plan.recipe.device].items()
        if knob in task.given and getattr(plan.recipe, knob) != value
    }
    alone = [knob for knob, value in changes.items() if _fits(task, _changed(plan.recipe, {knob: value}))]
    for knob in alone:
        yield _flag(knob, changes[knob])
    if len(changes) > 1 and not alone and _fits(task, _changed(plan.recipe, changes)):
        yield f"all of {' '.join(_flag(knob, value) for knob, value in changes.items())}"


def _flag(knob: str, value: object) -> str:
    return f"--{knob.replace('_', '-')} {value}"


def _changed(recipe: Recipe, changes: Mapping[str, Any]) -> Recipe:
    accumulation = recipe.effective_batch // changes.get("batch_size", recipe.batch_size)
    return replace(recipe, **changes, accumulation=accumulation)


def _shorter(task: Task, plan: Plan) -> Iterator[str]:
    """The longest of a few shorter sequence lengths with which the closest plan fits."""
    for other in shorter(replace(task, start=plan.recipe)):
        if _fits(other, other.start):
            lengths = other.lengths
            length = lengths.longest if lengths else other.start.seq_len
            cut = f", which cuts {lengths.truncated:,} of {len(lengths.total):,}" if lengths else ""
            yield f"shorter sequences: --seq-len {length}{cut}"
            return


def _fits(task: Task, recipe: Recipe) -> bool:
    try:
        return _price(task, recipe).fits
    except LplanError:
        return False


def _price(task: Task, recipe: Recipe) -> Candidate:
    """One recipe alone, with its estimate and time."""
    given = frozenset(recipe.to_dict())
    return search(replace(task, start=recipe, given=given, aim=Aim())).chosen
