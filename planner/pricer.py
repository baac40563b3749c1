"""Prices for a search: bounds for every recipe, exact ones for those that matter, each worked out once."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import cast

from ..profiles.errors import LplanError
from .bounds import LeastBytes, layers_alone, recomputed
from .estimate import Estimate
from .estimating import Situation, make_estimate, shape_of
from .floating import hidden_size
from .footprint import Footprint
from .other_phases import with_other_phases
from .plan import TimeEstimate
from .recipe import Loss, Recipe
from .request import not_chunkable
from .task import Task
from .timing import StepClock, mean_shape_values, time_of
from .tracer import Footprints, baseline


@dataclass(frozen=True, slots=True)
class Candidate:
    """A recipe with its price."""

    recipe: Recipe
    estimate: Estimate
    time: TimeEstimate

    @property
    def fits(self) -> bool:
        """Within the budget by the high estimate."""
        return self.estimate.fits

    @property
    def required_bytes(self) -> int:
        """The high estimate of its peak."""
        return self.estimate.peak.required_bytes


@dataclass(frozen=True, slots=True)
class Bound:
    """What a recipe needs at least. `traced`: its own graph is known, and so `least_s` is its step's time."""

    least_s: float
    least_bytes: int
    traced: bool


_ON_EVERY_DEVICE: tuple[Loss, ...] = ("full", "supervised", "chunked")


class Pricer:
    """Prices the recipes of one task."""

    def __init__(self, task: Task, footprints: Footprints) -> None:
        self.task = task
        self._footprints = footprints
        self._width = hidden_size(task.situation.model.config)
        self._values: dict[tuple[int, int, int], list[float]] = {}
        self._graphs: dict[tuple[int, str, int], tuple[StepClock, LeastBytes]] = {}
        self._candidates: dict[Recipe, Candidate | LplanError] = {}
        self._recomputed: dict[tuple[Recipe, int, bool], Footprint] = {}
        self._layers: dict[int, Footprint] = {}
        self._bytes: dict[int, LeastBytes] = {}
        self._situation: Situation | None = None

    @property
    def situation(self) -> Situation:
        """The task's, with the import baseline as it is known when the first price is made."""
        if self._situation is None:
            self._situation = replace(self.task.situation, baseline=baseline())
        return self._situation

    def bound(self, recipe: Recipe) -> Bound | LplanError:
        """What is known of a recipe without a trace."""
        footprint = self._footprints.known(recipe, shape_of(recipe))
        return self.supposed(recipe) if footprint is None else self._bound(recipe, footprint, traced=True)

    def supposed(self, recipe: Recipe) -> Bound | LplanError:
        """What a recipe needs at least by its plain graph, or by that of another loss; nothing before one is known."""
        plain = self._plain(recipe)
        if plain is None or isinstance(plain, LplanError):
            return Bound(0.0, 0, traced=False)
        alike = self._alike(recipe)
        key = (recipe.graph(), id(plain), alike is not None)
        if key not in self._recomputed:
            self._recomputed[key] = recomputed(recipe, plain, alike) if recipe.checkpoint_period else plain
        return self._bound(recipe, self._recomputed[key], traced=False)

    def _plain(self, recipe: Recipe) -> Footprint | LplanError | None:
        """The recipe's graph without recomputation, or what its layers do at least; None where nothing is known."""
        shape, plain = shape_of(recipe), plain_graph(recipe)
        known = self._footprints.known(plain, shape)
        if known is not None:
            return known
        others = (self._footprints.known(replace(plain, loss=loss), shape) for loss in _ON_EVERY_DEVICE)
        other = next((one for one in others if isinstance(one, Footprint)), None)
        if other is None or recipe.loss not in _ON_EVERY_DEVICE:
            return None
        return self._layers.setdefault(id(other), layers_alone(other))

    def _alike(self, recipe: Recipe) -> tuple[Footprint, Footprint] | None:
        """The known graphs, with its checkpointing and without, that differ from the recipe's in the loss alone."""
        for loss in _ON_EVERY_DEVICE:
            other = replace(recipe, loss=loss)
            known = [self._footprints.known(one, shape_of(other)) for one in (other, plain_graph(other))]
            if loss != recipe.loss and all(isinstance(one, Footprint) for one in known):
                return cast("tuple[Footprint, Footprint]", tuple(known))
        return None

    def learn(self, recipe: Recipe, ahead: Recipe | None = None) -> None:
        """Trace what would tell most; beside it what would tell most of the one that may be next."""
        after = None if ahead is None else (self.unknown(ahead), shape_of(ahead))
        self._footprints.get(self.unknown(recipe), shape_of(recipe), after)

    def trace(self, recipe: Recipe, beside: Recipe) -> None:
        """Trace a recipe's graph; at the same time another's, which will be asked for as well."""
        self._footprints.get(recipe, shape_of(recipe), (beside, shape_of(beside)))

    def unknown(self, recipe: Recipe) -> Recipe:
        """What would tell most of a recipe: its plain graph if nothing is known of that, else its own."""
        return plain_graph(recipe) if self._plain(recipe) is None else recipe

    def price(self, recipe: Recipe) -> Candidate | LplanError:
        """The exact price, or why the libraries refuse the recipe. Traces its graph if need be."""
        if recipe not in self._candidates:
            self._candidates[recipe] = self._price(recipe)
        return self._candidates[recipe]

    def refused(self, recipe: Recipe) -> LplanError | None:
        """Why the libraries refuse a recipe, where that is known."""
        bound = self.bound(recipe)
        return bound if isinstance(bound, LplanError) else None

    def priced(self) -> list[Candidate]:
        """Every candidate that was priced exactly."""
        return [found for found in self._candidates.values() if isinstance(found, Candidate)]

    def _price(self, recipe: Recipe) -> Candidate | LplanError:
        footprint = self._footprints.get(recipe, shape_of(recipe))
        refused = _refusal(recipe, footprint)
        if refused is not None:
            return refused
        assert isinstance(footprint, Footprint)
        clock, _ = self.compiled(recipe, footprint)
        step_s = clock.step_s(self._mean_values(recipe), recipe.accumulation)
        time = time_of(recipe, step_s, self.task.lengths, self.task.schedule)
        estimate = make_estimate(recipe, footprint, self.situation)
        return Candidate(recipe, with_other_phases(estimate, footprint, self.situation), time)

    def _bound(
        self, recipe: Recipe, footprint: Footprint | LplanError, *, traced: bool
    ) -> Bound | LplanError:
        refused = _refusal(recipe, footprint)
        if refused is not None:
            return refused
        assert isinstance(footprint, Footprint)
        clock, least = self.compiled(recipe, footprint)
        step_s = clock.step_s(self._mean_values(recipe), recipe.accumulation)
        return Bound(step_s, least.at(shape_of(recipe).values()), traced)

    def compiled(self, recipe: Recipe, footprint: Footprint) -> tuple[StepClock, LeastBytes]:
        """Time and least memory of a graph as functions of the shape."""
        key = (id(footprint), recipe.allocator, recipe.length_buckets)
        found = self._graphs.get(key)
        if found is None:
            rates = self.task.rates[recipe.allocator].computing(tf32=recipe.tf32)
            clock = StepClock(footprint, rates, self._width, recipe.loss)
            found = self._graphs[key] = (clock, self._least(recipe, footprint))
        return found

    def _least(self, recipe: Recipe, footprint: Footprint) -> LeastBytes:
        """The same under every allocator."""
        if id(footprint) not in self._bytes:
            self._bytes[id(footprint)] = LeastBytes(recipe, footprint, self.situation)
        return self._bytes[id(footprint)]

    def _mean_values(self, recipe: Recipe) -> list[float]:
        key = (recipe.batch_size, recipe.seq_len, recipe.pad_to_multiple_of)
        if key not in self._values:
            self._values[key] = mean_shape_values(recipe, self.task.lengths)
        return self._values[key]


def plain_graph(recipe: Recipe) -> Recipe:
    """The recipe without recomputation: it does all the work that the recipe does, but once."""
    return replace(recipe, checkpointing="none")


def _refusal(recipe: Recipe, answer: Footprint | LplanError) -> LplanError | None:
    if isinstance(answer, LplanError):
        return answer
    return not_chunkable() if recipe.cuts_logits and not answer.chunkable else None
