"""What an evaluation found. The trainer writes it, the report draws it, evaluation.json holds it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..profiles.errors import LplanError, UsageError
from ..profiles.typed import require_types

SCHEMA = "lplan.evaluate/1"
FILE = "evaluation.json"
MAX_FORGETTING = 0.05
"""General knowledge that may be lost without a warning, as a share of the questions."""

Interval = tuple[float, float]


@dataclass(frozen=True, kw_only=True, slots=True)
class Share:
    """Right answers of so many questions, with the 95 % interval of their share (Wilson)."""

    right: int
    of: int
    low: float
    high: float

    @property
    def share(self) -> float:
        """In [0, 1]; 0 of no questions."""
        return self.right / self.of if self.of else 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Score:
    """Answers to the same questions before and after training; `before` is None where there is no base to ask.

    `difference` is the 95 % interval of after - before (paired bootstrap), `p_value` McNemar's exact one.
    """

    after: Share
    before: Share | None = None
    difference: Interval | None = None
    p_value: float | None = None

    @property
    def lost(self) -> float:
        """How much of the share is gone; negative for a gain, 0 without a before."""
        return 0.0 if self.before is None else self.before.share - self.after.share


@dataclass(frozen=True, kw_only=True, slots=True)
class Loss:
    """Mean loss a supervised token over held-out examples; `difference` as in Score, a mean over examples."""

    samples: int
    after: float
    before: float | None = None
    difference: Interval | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Latency:
    """Greedy generation, one prompt at a time: medians over the prompts."""

    prompts: int
    first_token_s: float
    tokens_per_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class SampleAnswer:
    """A held-out request with the answer that the data has and those that were generated."""

    request: str
    wanted: str
    after: str
    before: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluated:
    """One evaluation of one run. What was not asked is None."""

    model: str
    task: str | None
    labels: int
    loss: Loss | None
    scored: Score | None
    """The likeliest of the task's answers is the right one."""
    generated: Score | None
    """The generated answer is the right one, letter by letter."""
    knowledge: Score | None
    max_forgetting: float
    latency: Latency | None
    samples: tuple[SampleAnswer, ...]
    seconds: float

    @property
    def forgot(self) -> bool:
        """Whether more general knowledge is lost than accepted."""
        return self.knowledge is not None and self.knowledge.lost > self.max_forgetting

    def document(self) -> dict[str, Any]:
        """`lplan evaluate --json`, and evaluation.json."""
        return {"schema": SCHEMA, **asdict(self), "forgot": self.forgot}


def write_evaluation(evaluated: Evaluated, folder: Path) -> Path:
    """Write evaluation.json into a run folder, atomically."""
    aside = folder / f".{FILE}.part"
    aside.write_text(json.dumps(evaluated.document(), indent=1) + "\n", encoding="utf-8")
    return aside.replace(folder / FILE)


def read_evaluation(folder: Path) -> Evaluated:
    """The evaluation of a run folder. Raises UsageError where there is none, LplanError where it is damaged."""
    path = folder / FILE
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{folder} has no {FILE}", hint=f"make it: lplan evaluate {folder}") from error
    except (ValueError, RecursionError) as error:
        raise LplanError(f"{path} is damaged: {error}", hint="evaluate again") from error
    return evaluation_of(data)


def evaluation_of(data: Any) -> Evaluated:
    """What a document of `Evaluated.document` says. Raises LplanError where it is damaged."""
    try:
        evaluated = _evaluated(data)
        require_types(evaluated)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise LplanError(
            f"the evaluation is damaged: {type(error).__name__}: {error}", hint="evaluate again"
        ) from error
    return evaluated


def _evaluated(data: Mapping[str, Any]) -> Evaluated:
    known = {name: data[name] for name in Evaluated.__dataclass_fields__}
    scores = {name: _score(data[name]) for name in ("scored", "generated", "knowledge")}
    latency, samples = data["latency"], tuple(SampleAnswer(**one) for one in data["samples"])
    return Evaluated(
        **{
            **known,
            **scores,
            "loss": None if data["loss"] is None else Loss(**_with_interval(data["loss"])),
            "latency": None if latency is None else Latency(**latency),
            "samples": samples,
        }
    )


def _score(data: Mapping[str, Any] | None) -> Score | None:
    if data is None:
        return None
    before = data["before"]
    shares = {"after": Share(**data["after"]), "before": None if before is None else Share(**before)}
    return Score(**{**_with_interval(data), **shares})


def _with_interval(data: Mapping[str, Any]) -> dict[str, Any]:
    found = data["difference"]
    return {**data, "difference": None if found is None else tuple(found)}
