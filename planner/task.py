"""What a plan is wanted for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from .aim import Aim
from .estimating import Situation
from .plan import Schedule
from .rates import Rates
from .recipe import Allocator, Recipe
from .tokens import TokenLengths


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """What a plan is wanted for. `start` holds the given knobs and defaults; `given` names the given ones."""

    situation: Situation
    start: Recipe
    given: frozenset[str]
    schedule: Schedule
    lengths: TokenLengths | None
    rates: Mapping[Allocator, Rates]
    aim: Aim = field(default_factory=Aim)
