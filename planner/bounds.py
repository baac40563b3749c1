"""What a recipe needs at least: proven, monotone in batch and length, and cheap enough for every recipe of a search.

Memory: every estimate counts what is alive at an instant of the trace, beside the libraries (CPU) or the context and
the workspaces (CUDA), and adds to it; none takes away. Time is exact where the graph was traced.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from .cuda import context_bytes, workspace_bytes
from .estimating import TRACED_PHASES, Situation
from .footprint import Footprint, Instant, Linear
from .polynomial import MONOMIALS, ZERO, Coefficients, largest, minus, plus, term
from .recipe import Recipe
from .residuals import residuals
from .runtime import Spread, growth

_FORWARD_SHARE = {"matmul": 1 / 3, "attention": 1 / 3.5}
"""Of a layer's work without recomputation, at least: a product's two gradients cost as much as it each; backward of
fused attention makes five products for forward's two."""


class LeastBytes:
    """The least that `required_bytes` of a graph's estimates can be, as a function of the shape's values.

    `recipe` stands for all that differ from it in batch, accumulation and length alone.
    """

    def __init__(self, recipe: Recipe, footprint: Footprint, situation: Situation) -> None:
        beside = _beside_cuda if recipe.device == "cuda" else _beside_cpu
        found: list[Coefficients] = []
        for phase in TRACED_PHASES:
            around = term("1", beside(phase, recipe, footprint, situation))
            found += [plus(live, around) for live in _totals(footprint, phase)]
        self._live = largest(_undominated(found))
        self._required = _required(recipe, situation)

    def at(self, values: Sequence[float]) -> int:
        """Required bytes, at least."""
        return self._required(int(self._live(values)))


def _totals(footprint: Footprint, phase: str) -> list[Coefficients]:
    totals = []
    for instant in footprint.phases.get(phase, ()):
        total = ZERO
        for part in instant.components.values():
            total = plus(total, part.whole(footprint.extra_units))
        totals.append(total)
    return totals


_AT_LEAST = {
    "BS2": ("BS", "S2", "B", "S", "1"),
    "BS": ("B", "S", "1"),
    "S2": ("S", "1"),
    "B": ("1",),
    "S": ("1",),
    "N": ("K",),
}
"""Monomials that are no larger than another one, for any shape."""


def _exceeds(one: Coefficients, other: Coefficients) -> bool:
    """Whether one is no smaller than the other for any shape: what it has more of a monomial may stand for less of a
    smaller one."""
    if sum(one) < sum(other):  # less for a shape of ones
        return False
    more = minus(one, other)
    if min(more) >= 0:
        return True
    left = dict(zip(MONOMIALS, more, strict=True))
    for name, smaller in _AT_LEAST.items():
        for less in smaller:
            moved = max(0, min(left[name], -left[less]))
            left[name] -= moved
            left[less] += moved
    return all(value >= 0 for value in left.values())


def _undominated(found: Sequence[Coefficients]) -> list[Coefficients]:
    """Those that no other one exceeds."""
    kept: list[Coefficients] = []
    for one in found:
        if not any(_exceeds(other, one) for other in kept):
            kept = [other for other in kept if not _exceeds(one, other)] + [one]
    return kept


def _beside_cpu(phase: str, recipe: Recipe, footprint: Footprint, situation: Situation) -> int:
    libraries = situation.baseline
    more = growth(phase, recipe, footprint.layers, libraries)
    return libraries.anonymous_bytes + libraries.file_bytes + more.anonymous_bytes + more.file_bytes


def _beside_cuda(phase: str, recipe: Recipe, footprint: Footprint, situation: Situation) -> int:
    gpu = situation.hardware.gpus[0]
    handles = 1 if phase == "first step" else 2
    return context_bytes(gpu) + handles * workspace_bytes(gpu)


def _required(recipe: Recipe, situation: Situation) -> Callable[[int], int]:
    """From expected to required bytes: the range on top, on a GPU bent to the budget where it fits."""
    if recipe.device == "cpu":
        return residuals(recipe, None).spread().high
    return _bent(residuals(recipe, situation.hardware.gpus[0]).spread(), situation.budget.budget_bytes)


def _bent(margin: Spread, budget_bytes: int) -> Callable[[int], int]:
    cautious = margin.within(budget_bytes)

    def required(expected: int) -> int:
        high = margin.high(expected)
        return max(expected, min(high, budget_bytes)) if expected <= cautious else high

    return required


_WHATEVER_THE_LOSS = ("weights", "adapters", "optimizer")


def layers_alone(footprint: Footprint) -> Footprint:
    """The least of a graph, from that of the same under another loss: what repeated layers do and hold, and what is
    there all the time. The optimizer's work is all of it."""
    work = {
        name: replace(part, base=part.per_unit) if name.startswith("micro ") else part
        for name, part in footprint.work.items()
    }
    phases = {
        name: tuple(_of_layers(instant) for instant in instants)
        for name, instants in footprint.phases.items()
    }
    return replace(footprint, work=work, phases=phases)


def _of_layers(instant: Instant) -> Instant:
    return Instant(
        {
            name: part if name in _WHATEVER_THE_LOSS else Linear(ZERO, part.per_unit)
            for name, part in instant.components.items()
            if name in _WHATEVER_THE_LOSS or min(part.per_unit) >= 0
        }
    )


def recomputed(recipe: Recipe, plain: Footprint, alike: tuple[Footprint, Footprint] | None) -> Footprint:
    """The least of a checkpointed graph, from that of the same graph without: its layers run forward again.

    `alike`: the graphs with and without checkpointing under another loss, where those are known. What the layers do
    again is the same under every loss, so their difference is all of it.
    """
    work = _beyond(plain, *alike) if alike is not None else _products_again(recipe, plain)
    phases = {
        name: tuple(_without_recomputed(instant, recipe, plain) for instant in instants)
        for name, instants in plain.phases.items()
    }
    return replace(plain, work=work, phases=phases)


def _beyond(plain: Footprint, with_again: Footprint, without: Footprint) -> dict[str, Linear]:
    """Of whole models: a unit of a graph with every other layer checkpointed is two layers, one without is one."""
    work = {name: Linear(part.whole(plain.extra_units)) for name, part in plain.work.items()}
    for name, part in with_again.work.items():
        before, known = without.work.get(name, Linear(ZERO)), work.get(name, Linear(ZERO))
        more = minus(part.whole(with_again.extra_units), before.whole(without.extra_units))
        work[name] = Linear(plus(known.base, more))
    return work


def _products_again(recipe: Recipe, plain: Footprint) -> dict[str, Linear]:
    share = plain.extra_units / recipe.checkpoint_period if recipe.checkpoint_period else 0.0
    work = dict(plain.work)
    for name, part in plain.work.items():
        owner, kind, *_ = name.split()
        again = _FORWARD_SHARE.get(kind, 0.0) * share if owner == "micro" else 0.0
        more = tuple(int(again * unit) for unit in part.per_unit)
        work[name] = replace(part, base=plus(part.base, more))
    return work


def _without_recomputed(instant: Instant, recipe: Recipe, plain: Footprint) -> Instant:
    """What is alive whatever is recomputed: all but activations, and those of the repeated layers that are not."""
    parts = dict(instant.components)
    kept = parts.pop("activations", None)
    if kept is not None and plain.period == 1 and recipe.checkpoint_period:
        untouched = plain.extra_units - -(-plain.extra_units // recipe.checkpoint_period)
        share = tuple(untouched * unit for unit in kept.per_unit)
        if all(unit >= 0 for unit in share):
            parts["activations"] = Linear(share)
    return Instant(parts)
