"""Tasks: how the rows of a data set become dialogues, and what is usual for training on them."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cache
from importlib import resources
from typing import Any

from ...planner.recipe import ATTENTION
from ...profiles.errors import UsageError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

TASKS = ("banking77", "banking77-intents", "none")


@dataclass(frozen=True, kw_only=True, slots=True)
class Defaults:
    """A task's usual hyper-parameters; these are the founding document's."""

    rank: int = 8
    alpha: int = 16
    dropout: float = 0.05
    target_modules: tuple[str, ...] = ATTENTION
    batch_size: int = 2
    accumulation: int = 4
    epochs: float = 3.0
    learning_rate: float = 2e-4
    warmup_steps: int = 50
    scheduler: str = "cosine"


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """What is to be learned. With `responses` a labelled text becomes a dialogue; without, rows are dialogues."""

    name: str
    system_prompt: str | None = None
    responses: Mapping[str, str] = field(default_factory=dict, hash=False)
    """The assistant's answer for every label."""
    text_column: str = "text"
    label_columns: tuple[str, ...] = ("category", "label")
    """The first of these that a data set has holds the label."""
    defaults: Defaults = Defaults()

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels that the task knows, in its own order."""
        return tuple(self.responses)


def find_task(name: str | None) -> Task:
    """The task of this name; None and "none" are the generic one.

    Raises UsageError for a name that is not one of `TASKS`.
    """
    if name is None or name == "none":
        return Task(name="none")
    if name not in TASKS:
        near = get_close_matches(name, TASKS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"known tasks: {', '.join(TASKS)}"
        raise UsageError(f"there is no task called {name!r}", hint=hint)
    return _read(name)


@cache
def _read(name: str) -> Task:
    text = resources.files(__package__).joinpath(f"{name}.toml").read_text(encoding="utf-8")
    values: dict[str, Any] = tomllib.loads(text)
    defaults = values.pop("defaults")
    defaults["target_modules"] = tuple(defaults["target_modules"])
    values["label_columns"] = tuple(values["label_columns"])
    return Task(**values, defaults=Defaults(**defaults))
