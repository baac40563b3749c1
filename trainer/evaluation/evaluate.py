"""The evaluation of a model with adapters: the same questions before (adapters off) and after."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import torch
from torch import nn

from ...planner.evaluation import Evaluated, Latency, Loss, SampleAnswer, Score, Share
from ...planner.recipe import Recipe
from ...planner.tracing.step import autocast
from .generation import generate, stop_tokens
from .questions import Asked, Ids, Question, QuestionSet
from .scoring import Prompts, in_batches, likelihoods, most_likely
from .statistics import mcnemar, paired_difference, wilson
from .trie import radix_trie

_BLOCK = 8
"""Batches whose prompts are grouped by length together: what a short evaluation stops between."""
_GENERATED_TOKENS = 48

Decode = Callable[[Sequence[int]], str]


@dataclass(frozen=True, kw_only=True, slots=True)
class Extent:
    """How much is asked. Shares of `seconds` (None: no end) bound each part, and one block always is."""

    rows: int
    """Sequences at once: the plan's micro batch, so that the plan's evaluation holds."""
    seconds: float | None = None
    generated: bool = False
    """Also count generated answers, letter by letter."""
    samples: int = 3
    """Sample answers, which latency is measured on too."""


def evaluate(
    model: nn.Module,
    questions: QuestionSet,
    recipe: Recipe,
    extent: Extent,
    *,
    name: str,
    task: str | None,
    max_forgetting: float,
    decode: Decode | None,
) -> Evaluated:
    """Ask everything within the extent. Without `decode` there are no sample answers."""
    began_s = time.monotonic()
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad(), autocast(recipe, recipe.device):
            examiner = _Examiner(model, questions, extent, began_s)
            asked = examiner.ask()
            knowledge = examiner.knowledge()
            told = examiner.tell(decode) if decode is not None else _Told()
    finally:
        model.train(was_training)
    return Evaluated(
        model=name,
        task=task,
        labels=len(questions.labels),
        loss=asked.mean_loss(),
        scored=asked.score(),
        generated=told.generated,
        knowledge=knowledge,
        max_forgetting=max_forgetting,
        latency=told.latency,
        samples=told.samples,
        seconds=round(time.monotonic() - began_s, 3),
    )


@dataclass(slots=True)
class _Told:
    generated: Score | None = None
    latency: Latency | None = None
    samples: tuple[SampleAnswer, ...] = ()


@dataclass(slots=True)
class _Side:
    """Before or after: a value an example, in the order asked."""

    losses: list[float] = field(default_factory=list)
    right: list[bool] = field(default_factory=list)


@dataclass(slots=True)
class _Answers:
    sides: dict[str, _Side]
    tokens: list[int] = field(default_factory=list)

    def mean_loss(self) -> Loss | None:
        """Token by token; None where nothing was asked."""
        if not self.tokens:
            return None
        means = {
            name: sum(side.losses) / sum(self.tokens) for name, side in self.sides.items() if side.losses
        }
        difference = None
        if "before" in means:
            each = [
                [loss / tokens for loss, tokens in zip(self.sides[name].losses, self.tokens, strict=True)]
                for name in ("before", "after")
            ]
            difference = paired_difference(each[0], each[1])
        return Loss(
            samples=len(self.tokens),
            after=means["after"],
            before=means.get("before"),
            difference=difference,
        )

    def score(self) -> Score | None:
        """The labels found; None where there are none."""
        after = self.sides["after"].right
        before = self.sides["before"].right if "before" in self.sides else None
        return compared(before, after) if after else None


def compared(before: Sequence[bool] | None, after: Sequence[bool]) -> Score:
    """The score of answers to the same questions, right or not."""
    if before is None:
        return Score(after=_share(after))
    numbers = [[float(right) for right in side] for side in (before, after)]
    return Score(
        after=_share(after),
        before=_share(before),
        difference=paired_difference(numbers[0], numbers[1]),
        p_value=mcnemar(before, after),
    )


def _share(answers: Sequence[bool]) -> Share:
    low, high = wilson(sum(answers), len(answers))
    return Share(right=sum(answers), of=len(answers), low=low, high=high)


class _Examiner:
    def __init__(self, model: nn.Module, questions: QuestionSet, extent: Extent, began_s: float) -> None:
        self._model, self._questions, self._extent = model, questions, extent
        self._began_s = began_s
        self._trie = radix_trie(questions.labels) if len(questions.labels) > 1 else None
        self._sides = ("before", "after") if hasattr(model, "disable_adapter") else ("after",)

    def ask(self) -> _Answers:
        """Loss of the right answer, and the task's likeliest one, of every held-out example."""
        found = _Answers({name: _Side() for name in self._sides})
        asked = self._questions.asked
        for batch in self._batches([len(one.prompt) for one in asked], share=0.6):
            some = [asked[index] for index in batch]
            found.tokens += [len(one.answer) for one in some]
            for name in self._sides:
                with self._as(name):
                    self._answer(found.sides[name], some)
        return found

    def _answer(self, side: _Side, some: Sequence[Asked]) -> None:
        prompts = Prompts(self._model, [one.prompt for one in some])
        side.losses += [-value for value in prompts.likelihoods([one.answer for one in some])]
        if self._trie is not None and all(one.label is not None for one in some):
            best = most_likely(prompts, self._trie, self._extent.rows)
            side.right += [label == one.label for (label, _), one in zip(best, some, strict=True)]

    def knowledge(self) -> Score | None:
        """Right where the right choice is the likeliest a character.

        By likelihood, because small models don't yet answer by letters; a character, because choices of more
        tokens would else be less likely whatever they say.
        """
        questions = self._questions.knowledge
        sides: dict[str, list[bool]] = {name: [] for name in self._sides}
        for batch in self._batches([len(one.prompt) for one in questions], share=0.9):
            for name in self._sides:
                with self._as(name):
                    sides[name] += [self._knows(questions[index]) for index in batch]
        return compared(sides.get("before"), sides["after"]) if questions else None

    def _knows(self, question: Question) -> bool:
        values = likelihoods(self._model, question.prompt, question.choices, self._extent.rows)
        each = [value / length for value, length in zip(values, question.lengths, strict=True)]
        return max(range(len(each)), key=each.__getitem__) == question.right

    def tell(self, decode: Decode) -> _Told:
        """Sample answers with their latency; all answers where they are to be counted."""
        extent, asked = self._extent, self._questions.asked
        if not asked:
            return _Told()
        stop = stop_tokens(self._model, tuple(one.answer for one in asked))
        firsts: list[float] = []
        rates: list[float] = []
        right: dict[str, list[bool]] = {name: [] for name in self._sides}
        samples = []
        for number, one in enumerate(asked if extent.generated else asked[: extent.samples]):
            texts: dict[str, str] = {}
            for name in self._sides:
                with self._as(name):
                    tokens, times = _timed(self._model, one.prompt, stop)
                texts[name] = decode(tokens).strip()
                right[name].append(tokens == [token for token in one.answer if token not in stop])
                if name == "after" and number < extent.samples:
                    firsts.append(times[0])
                    rates += [(len(times) - 1) / (times[-1] - times[0])] if len(times) > 1 else []
            if number < extent.samples:
                wanted = decode([token for token in one.answer if token not in stop]).strip()
                samples.append(
                    SampleAnswer(
                        request=one.text, wanted=wanted, after=texts["after"], before=texts.get("before")
                    )
                )
        return _Told(
            generated=compared(right.get("before"), right["after"]) if extent.generated else None,
            latency=Latency(
                prompts=len(firsts),
                first_token_s=median(firsts),
                tokens_per_s=median(rates) if rates else 0.0,
            ),
            samples=tuple(samples),
        )

    def _as(self, side: str) -> AbstractContextManager[Any]:
        return self._model.disable_adapter() if side == "before" else nullcontext()  # type: ignore[operator]

    def _batches(self, lengths: Sequence[int], *, share: float) -> Iterator[list[int]]:
        """Batches until a share of the time since the beginning is used."""
        seconds, rows = self._extent.seconds, self._extent.rows
        block = len(lengths) or 1 if seconds is None else rows * _BLOCK

        def until() -> bool:
            return seconds is None or time.monotonic() - self._began_s < share * seconds

        return in_batches(lengths, rows, block, until)


def _timed(model: nn.Module, prompt: Ids, stop: frozenset[int]) -> tuple[list[int], list[float]]:
    """Tokens, and seconds from the prompt to each; of an empty answer, to its end."""
    began_s, tokens, times = time.monotonic(), [], []
    for token in generate(model, prompt, most=_GENERATED_TOKENS, stop=stop):
        tokens.append(token)
        times.append(time.monotonic() - began_s)
    return tokens, times or [time.monotonic() - began_s]
