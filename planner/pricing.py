"""What `lplan estimate` answers: one configuration, priced as it is."""

from __future__ import annotations

from dataclasses import replace

from .estimate import Estimate
from .estimating import Situation, make_estimate, shape_of
from .other_phases import with_other_phases
from .request import Request, not_chunkable, require_context, taken_by_default
from .tracer import baseline, footprint


def price(request: Request, situation: Situation) -> Estimate:
    """The estimate of a request; its assumptions end with what was taken by default.

    Raises UsageError for a recipe that this model cannot have, LplanError where the libraries refuse it.
    """
    recipe = request.recipe
    beyond = require_context(situation.model, recipe.seq_len)
    found = footprint(situation.model, recipe, shape_of(recipe))
    if recipe.cuts_logits and not found.chunkable:
        raise not_chunkable()
    here = replace(situation, baseline=baseline())
    estimate = with_other_phases(make_estimate(recipe, found, here), found, here)
    return replace(estimate, assumptions=(*estimate.assumptions, *beyond, *taken_by_default(request)))
