"""What a recipe's expressions and token ids have to be, whatever the model."""

from __future__ import annotations

import re
from typing import Any

from ..profiles.errors import UsageError

REGEX = "re:"
"""Before a regular expression that whole module paths have to match, as PEFT's `target_modules` does as a string."""


def check_patterns(recipe: Any) -> None:
    """Raises UsageError for expressions, patterns and token ids of a planner.recipe.Recipe that cannot be."""
    expressions = [name.removeprefix(REGEX) for name in recipe.target_modules if name.startswith(REGEX)]
    if expressions and len(recipe.target_modules) > 1:
        raise UsageError("a regular expression stands alone in the target modules", hint="join them by |")
    for pattern, value in (*recipe.rank_pattern, *recipe.alpha_pattern):
        expressions.append(pattern)
        if value < 1:
            raise UsageError(f"the pattern {pattern} must be given at least 1, not {value}")
    for expression in expressions:
        try:
            re.compile(expression)
        except re.error as error:
            raise UsageError(
                f"{expression} is no regular expression: {error}", hint="as Python's re has them"
            ) from error
    tokens = recipe.trainable_tokens
    if any(token < 0 for token in tokens) or len(set(tokens)) < len(tokens):
        raise UsageError("trainable tokens are ids from 0 on, each of them once")
