"""From full fine-tuning in fp32 down to a plan, a measure at a time: what each of them saves and costs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ..profiles.errors import LplanError, UsageError
from .kernels import on_gpu
from .pricer import Candidate
from .recipe import ADAPTER_KNOBS, Recipe
from .search import price_all
from .task import Task
from .tracer import Progress

START_BATCH, START_LENGTH = 4, 512
"""The founding document's: full fine-tuning at 4 x 512."""

_MEASURES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("gradient accumulation", ("batch_size", "accumulation")),
    ("activation checkpointing", ("checkpointing",)),
    ("precision", ("precision",)),
    (
        "adapters",
        ("method", *ADAPTER_KNOBS, "quantization", "kbit_preparation"),
    ),
    (
        "sequence length",
        ("seq_len", "supervised_len", "padding", "pad_to_multiple_of", "length_buckets"),
    ),
    ("loss path", ("loss",)),
    ("adapter casting", ("input_casting", "adapter_dtype")),
    ("optimizer", ("optimizer",)),
    ("allocator", ("allocator",)),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Measure:
    """One step down. Bytes are of the expected peak, `time_ratio` of a token's time, against the step before."""

    name: str
    setting: str
    peak_bytes: int
    saves_bytes: int
    time_ratio: float | None
    """None for the first."""
    fits: bool


def walk(task: Task, goal: Recipe, progress: Progress | None = None) -> list[Measure]:
    """The steps from full fp32 fine-tuning to `goal`. Measures that change nothing are left out."""
    steps = list(_steps(task, goal))
    answers = price_all(task, [recipe for _, _, recipe in steps], progress)
    found: list[Measure] = []
    before: Candidate | None = None
    for (name, setting, _), candidate in zip(steps, answers, strict=True):
        if isinstance(candidate, LplanError):
            raise candidate
        peak = candidate.estimate.peak.peak.expected_bytes
        found.append(
            Measure(
                name=name, setting=setting, peak_bytes=peak,
                saves_bytes=0 if before is None else before.estimate.peak.peak.expected_bytes - peak,
                time_ratio=None if before is None else _per_token_s(candidate) / _per_token_s(before),
                fits=candidate.fits,
            )
        )  # fmt: skip
        before = candidate
    return found


def _per_token_s(candidate: Candidate) -> float:
    return 1 / candidate.time.tokens_per_s


def _steps(task: Task, goal: Recipe) -> Iterator[tuple[str, str, Recipe]]:
    start = replace(
        goal, method="full", quantization="none", precision="fp32", batch_size=START_BATCH, accumulation=1,
        seq_len=START_LENGTH, supervised_len=START_LENGTH, padding="padded", pad_to_multiple_of=1, length_buckets=1,
        checkpointing="none", loss="full", input_casting=True, adapter_dtype="fp32", optimizer="adamw",
        allocator="pinned" if goal.device == "cpu" else "default",
    )  # fmt: skip
    here = _valid(task, start)
    assert here is not None
    yield "full fine-tuning", f"fp32, {START_BATCH} x {START_LENGTH}", here
    waiting: dict[str, Any] = {}
    names: list[str] = []
    for name, knobs in _MEASURES:
        changes = {knob: getattr(goal, knob) for knob in knobs if getattr(goal, knob) != getattr(here, knob)}
        if not changes:
            continue
        waiting |= changes
        names.append(name)
        # A measure that is refused alone (16 bits without adapters on some GPUs) goes with the next one.
        changed = _valid(task, _replaced(here, waiting))
        if changed is None:
            continue
        if changed != here:
            yield " and ".join(names), ", ".join(_setting(goal, name) for name in names), changed
        here, waiting, names = changed, {}, []


def _replaced(recipe: Recipe, changes: Mapping[str, Any]) -> Recipe | None:
    """The recipe with these knobs; None where that cannot be."""
    try:
        return replace(recipe, **changes)
    except UsageError:
        return None


def _valid(task: Task, recipe: Recipe | None) -> Recipe | None:
    if recipe is None or recipe.device == "cpu":
        return recipe
    try:
        return on_gpu(recipe, task.situation.hardware.gpus[0], task.situation.model.config)
    except UsageError:
        return None


def _setting(recipe: Recipe, name: str) -> str:
    casting = "adapters cast" if not recipe.input_casting else "inputs cast"
    return {
        "gradient accumulation": f"{recipe.batch_size} x {recipe.accumulation}",
        "activation checkpointing": recipe.checkpointing,
        "precision": recipe.precision,
        "adapters": f"{recipe.method} r {recipe.rank}",
        "sequence length": f"{recipe.seq_len}",
        "loss path": recipe.loss,
        "adapter casting": casting,
        "optimizer": recipe.optimizer,
        "allocator": recipe.allocator,
    }[name]
