"""The recipes that a search may choose from, in tiers: one is looked at only where nothing in those before it fits."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import combinations, groupby, product
from typing import Any

from ..profiles.errors import UsageError
from .aim import Change
from .floating import FLOATING, values
from .kernels import on_gpu
from .recipe import ALL_LINEAR, ATTENTION, Recipe
from .request import Request, context_length, fit_to_data
from .task import Task
from .tokens import TokenLengths

_LEAST_RANK = 4
_SHORTEST = 32
_MULTIPLE = 16
_MOST_CUT = 0.5
"""Shorter sequences are no help when most of the data would be cut, perhaps to nothing."""
_LENGTH_STEP = 64
_STEPS = 32
"""Lengths between one and its double."""
_USUAL_CONTEXT = 8192
_BY_QUALITY = ("fp32", "bf16-amp", "fp16-amp", "bf16", "fp16")


@dataclass(frozen=True, slots=True)
class Tier:
    """Recipes for one task, the start of which may differ from the user's by `changes` of the objective."""

    task: Task
    recipes: tuple[Recipe, ...]
    changes: tuple[Change, ...] = ()


def space(task: Task) -> Iterator[Recipe]:
    """Every combination of the floating knobs."""
    choices = {knob: values(task, knob) for knob in FLOATING}
    for combination in product(*choices.values()):
        knobs: dict[str, Any] = dict(zip(choices, combination, strict=True))
        if "accumulation" not in task.given:
            knobs["accumulation"] = max(1, task.start.effective_batch // knobs["batch_size"])
        recipe = _made(task, knobs)
        if recipe is not None:
            yield recipe


def _made(task: Task, knobs: dict[str, Any]) -> Recipe | None:
    """The recipe; None where what was not asked for cannot be combined."""
    precision = knobs["precision"]
    try:
        recipe = replace(task.start, **knobs)
        if recipe.device == "cuda" and precision != task.start.precision:
            recipe = on_gpu(recipe, task.situation.hardware.gpus[0], task.situation.model.config)
    except UsageError:
        if precision == task.start.precision:
            raise
        return None
    return recipe


def tiers(task: Task) -> Iterator[Tier]:
    """In order of preference: what the objective prefers, before what changes the training objective."""
    for changes, changed in _changed(task):
        yield from _preferred(changed, changes)


def _preferred(task: Task, changes: tuple[Change, ...]) -> Iterator[Tier]:
    """The objective's order; on a GPU each part again with expandable segments, where nothing fits without."""
    expands = task.start.device == "cuda" and "allocator" not in task.given | task.aim.keep
    for one in _by_length(task) if task.aim.objective == "longest" else (task,):
        for part in _parts(one, tuple(dict.fromkeys(space(one)))):
            tighter = tuple(replace(recipe, allocator="expandable") for recipe in part if expands)
            if task.aim.objective == "least-memory":
                yield Tier(one, part + tighter, changes)
                continue
            yield Tier(one, part, changes)
            if tighter:
                yield Tier(one, tighter, changes)


def _parts(task: Task, recipes: tuple[Recipe, ...]) -> Iterator[tuple[Recipe, ...]]:
    if task.aim.objective == "largest-batch":
        ranked = sorted(recipes, key=lambda recipe: -recipe.batch_size)
        for _, part in groupby(ranked, key=lambda recipe: recipe.batch_size):
            yield tuple(part)
    elif task.aim.objective == "quality":
        ranked = sorted(recipes, key=lambda recipe: _BY_QUALITY.index(recipe.precision))
        for _, part in groupby(ranked, key=lambda recipe: recipe.precision):
            yield tuple(part)
    else:
        yield recipes


def _by_length(task: Task) -> Iterator[Task]:
    """Without data: lengths within the model's context, the longest first, in steps of 64 tokens up to 3 %."""
    if task.lengths is not None or "seq_len" in task.given:
        yield task
        return
    context = context_length(task.situation.model.config) or _USUAL_CONTEXT
    for length in ladder(context):
        yield replace(task, start=replace(task.start, seq_len=length, supervised_len=length))


def ladder(longest: int) -> list[int]:
    step = at = _LENGTH_STEP
    lengths = []
    while at <= longest:
        lengths.append(at)
        if at >= 2 * _STEPS * step:
            step *= 2
        at += step
    return lengths[::-1] or [longest]


def _changed(task: Task) -> Iterator[tuple[tuple[Change, ...], Task]]:
    """The task as it is, then with each allowed change alone, then with several."""
    for number in range(len(task.aim.allow) + 1):
        for changes in combinations(task.aim.allow, number):
            found = [task]
            for change in changes:
                found = [other for one in found for other in _CHANGED[change](one)]
            yield from ((changes, one) for one in found)


def _lower_rank(task: Task) -> Iterator[Task]:
    rank = task.start.rank // 2
    while task.start.adapts and rank >= _LEAST_RANK:
        alpha = max(1, task.start.alpha * rank // task.start.rank)
        yield _with(task, rank=rank, alpha=alpha)
        rank //= 2


def _fewer_targets(task: Task) -> Iterator[Task]:
    if task.start.adapts and task.start.target_modules == ALL_LINEAR:
        yield _with(task, target_modules=ATTENTION)


def _quantized(task: Task) -> Iterator[Task]:
    if task.start.device == "cuda" and task.start.method == "lora":
        for quantization in ("nf4", "nf4-dq"):
            yield _with(task, method="qlora", quantization=quantization, input_casting=True)


def shorter(task: Task) -> Iterator[Task]:
    """The task with an eighth less of its longest sequence, and less; not where most of the data would be cut."""
    longest = task.start.seq_len
    tried = {longest * eighths // 8 // _MULTIPLE * _MULTIPLE for eighths in range(1, 8)}
    for length in sorted((n for n in tried if _SHORTEST <= n < longest), reverse=True):
        if task.lengths is None:
            yield _with(task, seq_len=length, supervised_len=length)
            continue
        lengths = _cut(task.lengths, length)
        if lengths.truncated > len(lengths.total) * _MOST_CUT:
            return
        start = replace(task.start, seq_len=length, supervised_len=length)
        fitted = fit_to_data(Request(start, task.schedule, task.given), lengths)
        yield replace(task, start=fitted.recipe, lengths=lengths)


def _cut(lengths: TokenLengths, longest: int) -> TokenLengths:
    return TokenLengths(
        total=tuple(min(total, longest) for total in lengths.total),
        supervised=tuple(min(supervised, longest) for supervised in lengths.supervised),
        truncated=sum(total > longest for total in lengths.total),
    )


def _with(task: Task, **knobs: Any) -> Task:
    start = replace(task.start, **knobs)
    if start.device == "cuda":
        start = on_gpu(start, task.situation.hardware.gpus[0], task.situation.model.config)
    return replace(task, start=start)


_CHANGED = {
    "rank": _lower_rank,
    "targets": _fewer_targets,
    "quantization": _quantized,
    "truncation": shorter,
}
