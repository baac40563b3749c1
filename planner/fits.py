"""Which machines a model fits on, and which models fit on a machine: a small search for each pair.

Few graphs serve all pairs: the chunked loss (or the full one, where a model changes its logits after the head), with
and without checkpointing; micro batches of at most half the effective batch.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ..profiles.budget import kept_free
from ..profiles.errors import LplanError, UsageError
from ..profiles.hardware import Budget, Hardware
from ..profiles.machine import THIS_MACHINE
from ..profiles.model import ModelProfile
from .chance import chance_to_fit
from .cuda import gpu_rates
from .estimating import Situation
from .kernels import on_gpu
from .pricer import Bound, Candidate, Pricer
from .rates import Rates, known_rates
from .recipe import Allocator, Recipe
from .request import context_length, make_request
from .runtime import Baseline
from .search import fastest
from .space import ladder
from .task import Task
from .tracer import Footprints, baseline
from .tracing_process import shared_processes
from .versions import stack_versions

_BYTES_A_PARAMETER = {"none": 2.0, "int8": 1.0, "nf4": 0.5, "nf4-dq": 0.5, "fp4": 0.5, "fp4-dq": 0.5}
_USUAL_CONTEXT = 8192
_UNKNOWN_SPEED = Rates(
    matmul_flop_per_s={dtype: {1: {1: 1e12}} for dtype in ("float32", "bfloat16", "float16")},
    traffic_bytes_per_s=1e11,
    random_elements_per_s=1e10,
    op_s=1e-5,
)
"""Ranks recipes where nothing is known of the machine's speed; never shown."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """A machine, what a run may use of it, and what is wanted there."""

    hardware: Hardware
    budget: Budget
    asked: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Fit:
    """One pair. `recipe` is the best that fits, None where none does; `why_not` says why in a few words."""

    machine: str
    model: str
    budget_bytes: int
    recipe: Recipe | None = None
    required_bytes: int | None = None
    tokens_per_s: float | None = None
    """None where the machine's speed is not known."""
    chance: float | None = None
    """That a run of the recipe stays within the budget, 0 to 1."""
    longest: int | None = None
    """Tokens of the longest sequence that fits, one at a time."""
    why_not: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        names = (
            "machine", "model", "budget_bytes", "required_bytes", "chance", "tokens_per_s", "longest", "why_not",
        )  # fmt: skip
        recipe = None if self.recipe is None else self.recipe.to_dict()
        return {
            **{name: getattr(self, name) for name in names},
            "fits": self.recipe is not None,
            "recipe": recipe,
        }


def place(hardware: Hardware, budget: Budget, asked: Mapping[str, Any]) -> Place:
    """A machine with what is asked for there (`make_request`'s knobs, and `safety`)."""
    return Place(hardware=hardware, budget=kept_free(budget, asked.get("safety")), asked=asked)


def fits(pairs: Iterable[tuple[ModelProfile, Iterable[Place]]]) -> Iterator[Fit]:
    """A row for each model and machine, as they are priced."""
    libraries = baseline()
    with shared_processes():
        for model, places in pairs:
            with Footprints(model) as footprints:
                for one in places:
                    yield _fit(model, one, footprints, libraries)


def _fit(model: ModelProfile, where: Place, footprints: Footprints, libraries: Baseline) -> Fit:
    row = Fit(machine=where.hardware.name, model=model.id, budget_bytes=where.budget.budget_bytes)
    try:
        task = _task(model, where, libraries)
        _require_weights(model, task)
        return _best(row, Pricer(task, footprints), model)
    except LplanError as error:
        return replace(row, why_not=str(error))


def _require_weights(model: ModelProfile, task: Task) -> None:
    """What the weights alone rule out needs no trace."""
    least = (model.parameters or 0) * _BYTES_A_PARAMETER[task.start.quantization]
    if least > task.situation.budget.budget_bytes:
        raise LplanError("the weights alone are too large")


def _task(model: ModelProfile, where: Place, libraries: Baseline) -> Task:
    request = make_request(where.asked, where.hardware, device=where.budget.device)
    start = request.recipe
    if start.device == "cuda":
        start = on_gpu(start, where.hardware.gpus[0], model.config)
    casting = start.adapts and start.quantization == "none" and start.adapter_dtype == "fp32"
    usual: dict[str, Any] = {"loss": "chunked", "optimizer": "adamw-fused", "input_casting": not casting}
    start = replace(start, **{knob: value for knob, value in usual.items() if knob not in request.given})
    situation = Situation(
        model=model,
        hardware=where.hardware,
        budget=where.budget,
        baseline=libraries,
        versions=stack_versions(),
    )
    return Task(
        situation=situation,
        start=start,
        given=request.given,
        schedule=request.schedule,
        lengths=None,
        rates=dict.fromkeys(("pinned", "default", "expandable"), _rates(situation, start) or _UNKNOWN_SPEED),
    )


def _rates(situation: Situation, start: Recipe) -> Rates | None:
    if situation.budget.device == "cpu":
        return known_rates("pinned", start.threads) if situation.hardware.name == THIS_MACHINE else None
    try:
        return gpu_rates(situation.hardware.gpus[0])
    except UsageError:
        return None


def _best(row: Fit, pricer: Pricer, model: ModelProfile) -> Fit:
    recipes = list(_recipes(pricer.task))
    pricer.trace(recipes[0], beside=recipes[-1])
    if isinstance(pricer.price(recipes[0]), LplanError) and "loss" not in pricer.task.given:
        recipes = [replace(recipe, loss="full") for recipe in recipes]
    allocators: tuple[Allocator, ...] = ("pinned",)
    if pricer.task.start.device == "cuda":
        allocators = ("default", "expandable")
    for allocator in allocators:
        tried = [replace(recipe, allocator=allocator) for recipe in recipes]
        if best := fastest(pricer, tried):
            known = _rates(pricer.situation, best.recipe) is not None
            return replace(
                row,
                recipe=best.recipe,
                required_bytes=best.required_bytes,
                chance=chance_to_fit(best.estimate),
                tokens_per_s=best.time.tokens_per_s if known else None,
                longest=_longest(pricer, tried[0], model),
            )
    least = pricer.price(recipes[0])
    if isinstance(least, LplanError):
        raise least
    return replace(row, required_bytes=least.required_bytes, why_not="needs more")


def _recipes(task: Task) -> Iterator[Recipe]:
    """The one that needs least first."""
    start, effective = task.start, task.start.effective_batch
    divisors = [n for n in range(1, max(1, effective // 2) + 1) if effective % n == 0]
    sizes = [start.batch_size] if "batch_size" in task.given else divisors
    kinds = [start.checkpointing] if "checkpointing" in task.given else ["full", "none"]
    for checkpointing in kinds:
        for size in sizes:
            yield replace(start, checkpointing=checkpointing, batch_size=size, accumulation=effective // size)


def _longest(pricer: Pricer, leanest: Recipe, model: ModelProfile) -> int | None:
    """By bounds first, which grow with the length; then the longest that an exact price lets pass."""
    context = context_length(model.config) or _USUAL_CONTEXT
    lengths = ladder(context)[::-1]
    budget = pricer.task.situation.budget.budget_bytes

    def least_bytes(length: int) -> int:
        recipe = replace(leanest, seq_len=length, supervised_len=length)
        if isinstance(bound := pricer.bound(recipe), Bound) and not bound.traced:
            pricer.learn(recipe)
            bound = pricer.bound(recipe)
        return bound.least_bytes if isinstance(bound, Bound) else budget + 1

    for length in lengths[: bisect_right(lengths, budget, key=least_bytes)][::-1]:
        found = pricer.price(replace(leanest, seq_len=length, supervised_len=length))
        if isinstance(found, Candidate) and found.fits:
            return length
    return None
