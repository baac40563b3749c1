"""Decisions that no search makes: what follows from the data, the task and the machine, or was asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ..profiles.machine import THIS_MACHINE
from .plan import Decision
from .pricer import Candidate
from .recipe import ADAPTER_KNOBS, Recipe
from .selectors import trained_besides
from .task import Task
from .tokens import TokenLengths

_ADAPTERS = ("rank", "alpha", "dropout", "target_modules")
_RARE = tuple(knob for knob in ADAPTER_KNOBS if knob not in _ADAPTERS)
_WARMUP_SHARE = 10
_LONGEST = "the longest that fits, within the model's context"


def settled(task: Task, chosen: Candidate) -> Iterator[Decision]:
    """Decisions in the order in which a reader wants them."""
    recipe, lengths = chosen.recipe, task.lengths
    yield _decision("gradient accumulation", recipe.accumulation, _accumulation(task, recipe))
    if lengths is not None:
        yield _length(task, lengths, recipe)
        yield _padding(task, lengths, recipe)
    else:
        asked = "seq_len" in task.given
        usual = _LONGEST if task.aim.objective == "longest" and chosen.fits else "usual"
        yield _decision("sequence length", recipe.seq_len, "as asked" if asked else usual, given=asked)
    if recipe.adapts:
        yield _adapters(task, recipe)
        yield _adapter_dtype(task, recipe)
    if recipe.device == "cpu":
        yield _threads(task, recipe)
    if lengths is not None:
        yield from _schedule(task, lengths, chosen.time.steps)


def warmup_steps(task: Task, steps: int) -> int:
    """As asked; else the usual number, but at most a tenth of all steps."""
    usual = task.schedule.warmup_steps
    return usual if "warmup_steps" in task.given else min(usual, steps // _WARMUP_SHARE)


def _decision(knob: str, value: object, reason: str, *, given: bool = False) -> Decision:
    return Decision(knob=knob, value=str(value), reason=reason, given=given)


def _accumulation(task: Task, recipe: Recipe) -> str:
    kept = f"keeps the effective batch at {recipe.effective_batch}"
    return f"{kept}, as asked" if "effective_batch" in task.given else kept


def _length(task: Task, lengths: TokenLengths, recipe: Recipe) -> Decision:
    asked = "seq_len" in task.given
    longest = f"the longest sequence has {lengths.longest:,} tokens"
    if recipe.seq_len != lengths.longest:
        longest += f", padded to a multiple of {recipe.pad_to_multiple_of}"
    if not lengths.truncated:
        return _decision("sequence length", recipe.seq_len, f"{longest}; nothing is cut", given=asked)
    cut = f"{lengths.truncated:,} of {len(lengths.total):,} sequences are cut"
    why = f"{cut}, as asked" if asked else f"{cut} to the model's context"
    return _decision("sequence length", recipe.seq_len, f"{longest}; {why}", given=asked)


def _padding(task: Task, lengths: TokenLengths, recipe: Recipe) -> Decision:
    given = "padding" in task.given
    if recipe.padding == "none":
        why = "one sequence at a time" if len(set(lengths.total)) > 1 else "all sequences are equally long"
        return _decision("padding", "none", why, given=given)
    if recipe.padding == "packed":
        why = "a micro batch in one row, as asked; masks grow with the square of the row"
        return _decision("padding", "packed", why, given=given)
    if recipe.pad_to_multiple_of == 1:
        return _decision("padding", "to the longest", "as asked", given=given)
    distinct, padded = len(set(lengths.total)), recipe.length_buckets
    return _decision(
        "padding",
        f"multiples of {recipe.pad_to_multiple_of}",
        f"{_WHY_FEW_LENGTHS[recipe.device]}: {_count(padded, 'length')} instead of {distinct}",
        given=given,
    )


_WHY_FEW_LENGTHS = {
    "cpu": "math kernels are made and kept for every distinct length",
    "cuda": "tensor cores want multiples of 8, and freed blocks fit the next batch",
}


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _adapters(task: Task, recipe: Recipe) -> Decision:
    on = ", ".join((*recipe.target_modules, *recipe.target_parameters))
    parts = (f"r {recipe.rank}, alpha {recipe.alpha}, dropout {recipe.dropout:g}, on {on}",)
    value = "; ".join((*parts, *trained_besides(recipe)))
    asked = [knob.replace("_", " ") for knob in (*_ADAPTERS, *_RARE) if knob in task.given]
    if not asked:
        return _decision("LoRA", value, "usual")
    if task.given.issuperset(_ADAPTERS):
        return _decision("LoRA", value, "as asked", given=True)
    return _decision("LoRA", value, f"{_and(asked)} as asked, the rest as usual", given=True)


def _and(words: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1])))


def _adapter_dtype(task: Task, recipe: Recipe) -> Decision:
    given = "adapter_dtype" in task.given
    reason = "as asked"
    if not given:
        reason = "16-bit adapters lose small updates to rounding"
    return _decision("adapter dtype", recipe.adapter_dtype, reason, given=given)


def _threads(task: Task, recipe: Recipe) -> Decision:
    if "threads" in task.given:
        return _decision("threads", recipe.threads, "as asked", given=True)
    name = task.situation.hardware.name
    whose = "" if name == THIS_MACHINE else f" of {name}"
    return _decision("threads", recipe.threads, f"one for each usable core{whose}")


def _schedule(task: Task, lengths: TokenLengths, steps: int) -> Iterator[Decision]:
    schedule, given = task.schedule, task.given
    reason = f"{schedule.epochs:g} epochs of {len(lengths.total):,} sequences"
    if schedule.max_steps is not None:
        reason = "as asked"
    elif "epochs" in given:
        reason += ", as asked"
    yield _decision("steps", f"{steps:,}", reason, given=bool(given & {"max_steps", "epochs"}))
    rate_given = "learning_rate" in given
    yield _decision(
        "learning rate",
        f"{schedule.learning_rate:g}, {schedule.scheduler}",
        "as asked" if rate_given else "usual",
        given=rate_given,
    )
    warmup, usual = warmup_steps(task, steps), schedule.warmup_steps
    why = "usual" if warmup == usual else f"at most a tenth of the steps; {usual} are usual in long runs"
    is_given = "warmup_steps" in given
    yield _decision("warm-up steps", warmup, "as asked" if is_given else why, given=is_given)
