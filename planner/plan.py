"""A plan: a recipe with its estimate, its predicted time, and a reason for every choice."""

from __future__ import annotations

from dataclasses import dataclass

from .estimate import Estimate
from .recipe import Recipe


@dataclass(frozen=True, kw_only=True, slots=True)
class Rejected:
    """A value that was not taken, and why, in a few words."""

    value: str
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Decision:
    """A knob, its value, the reason, and what it was chosen over. `given` marks the user's own word."""

    knob: str
    value: str
    reason: str
    rejected: tuple[Rejected, ...] = ()
    given: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class TimeEstimate:
    """Predicted seconds per optimizer step, tokens (without padding) per second, and seconds in all."""

    step_s: float
    tokens_per_s: float
    total_s: float
    steps: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Schedule:
    """How long and how fast to learn: none of it changes memory."""

    epochs: float = 3.0
    max_steps: int | None = None
    learning_rate: float = 2e-4
    warmup_steps: int = 50
    scheduler: str = "cosine"
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    seed: int = 42


@dataclass(frozen=True, kw_only=True, slots=True)
class DataReference:
    """The data a plan was made for. `fingerprint` is a SHA-256 over the files' bytes."""

    location: str
    task: str | None
    fingerprint: str
    samples: int
    longest_tokens: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Advice:
    """Something worth knowing before training: it warns, and changes nothing. `source` is who found it out."""

    topic: str
    text: str
    reason: str
    source: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What `plan` chose and `fit-and-train` runs."""

    recipe: Recipe
    schedule: Schedule
    estimate: Estimate
    decisions: tuple[Decision, ...]
    time: TimeEstimate | None
    data: DataReference | None
    guidance: tuple[Advice, ...] = ()


def cost(plan: Plan, price_per_hour: float) -> float | None:
    """What the whole run costs at a price an hour, in the price's unit; None without a time."""
    return None if plan.time is None else plan.time.total_s / 3600 * price_per_hour
