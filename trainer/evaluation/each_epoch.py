"""A few held-out requests, answered after every epoch: they show what a loss does not."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ...planner.documents import read_plan
from ...planner.recipe import Recipe
from ...planner.tracing.step import autocast
from ...profiles.errors import LplanError
from ..data.tokenizer import load_tokenizer
from ..prepare import tokenizer_of
from .generation import generate, stop_tokens
from .questions import QuestionSet

REQUESTS, TOKENS = 2, 32
SHARE_OF_TRAINING, LEAST_S = 0.01, 2.0
"""Answers end after about so much of the time since they were last asked for, or so many seconds if that is more."""


class SampleRequests:
    """The requests of a run folder's questions; none where it has no questions, or no tokenizer any more."""

    def __init__(self, folder: Path, model: nn.Module, recipe: Recipe) -> None:
        questions = QuestionSet.read(folder)
        self._asked = questions.asked[:REQUESTS] if questions is not None else ()
        self._folder, self._model, self._recipe = folder, model, recipe
        self._since_s = time.monotonic()

    def answers(self) -> Iterator[tuple[str, str, str]]:
        """Request, wanted answer and the model's, at its likeliest."""
        now_s = time.monotonic()
        end_s = now_s + max(LEAST_S, SHARE_OF_TRAINING * (now_s - self._since_s))
        was_training = self._model.training
        self._model.eval()
        try:
            with suppress(LplanError), autocast(self._recipe, self._recipe.device), torch.no_grad():
                yield from self._answers(end_s)
        finally:
            self._model.train(was_training)
            self._since_s = time.monotonic()

    def _answers(self, end_s: float) -> Iterator[tuple[str, str, str]]:
        if not self._asked:
            return
        # Read anew each time: between epochs its memory is the training's.
        plan = read_plan(self._folder / "plan.json")
        tokenizer: Any = load_tokenizer(tokenizer_of(plan.estimate.model))
        stop = stop_tokens(self._model, tuple(one.answer for one in self._asked))
        for one in self._asked:
            tokens = []
            for token in generate(self._model, one.prompt, most=TOKENS, stop=stop):
                tokens.append(token)
                if time.monotonic() > end_s:
                    break
            wanted = tokenizer.decode([token for token in one.answer if token not in stop])
            yield one.text, wanted.strip(), tokenizer.decode(tokens).strip()
