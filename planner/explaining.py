"""What `lplan estimate` adds when it is asked to explain: the price of every knob, and memory over a step."""

from __future__ import annotations

from ..profiles.errors import UsageError
from .estimating import Situation, shape_of
from .request import Request
from .setting import rates_of
from .timeline import Timeline, timeline
from .toggles import Toggle, toggles
from .tracer import Progress, footprint


def explain(request: Request, situation: Situation, progress: Progress | None = None) -> list[Toggle]:
    """What every knob would save or cost. Measures this machine unless that is done already."""
    try:
        rates = rates_of(situation, request.recipe.threads)
    except UsageError:
        rates = None
    return toggles(request.recipe, situation, rates, progress)


def step_timeline(request: Request, situation: Situation, stretches: int) -> Timeline:
    """Live tensors over one step of a request."""
    shape = shape_of(request.recipe)
    return timeline(footprint(situation.model, request.recipe, shape), shape, stretches)
