"""What a user writes to choose modules, parameters, tokens and patterns, as a Recipe has it, and back in words."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ..profiles.errors import UsageError
from .patterns import REGEX
from .recipe import ALL_LINEAR, ATTENTION, Pattern, Recipe

_NONE = "none"
_RANGE = re.compile(r"(\d+)(?:-(\d+))?")
_MOST_TOKENS = 100_000


def target_modules(text: str) -> tuple[str, ...]:
    """ "attention", "all-linear", "none", "re:" with a regular expression, or names with commas between."""
    if text.startswith(REGEX):
        return (text,)
    words = {"attention": ATTENTION, "all-linear": ALL_LINEAR, _NONE: ()}
    if text.strip() in words:
        return words[text.strip()]
    return names(text, "--target-modules", "try attention, all-linear or q_proj,v_proj")


def names(text: str, flag: str, hint: str) -> tuple[str, ...]:
    """Names with commas between. Raises UsageError for none at all."""
    found = tuple(name.strip() for name in text.split(",") if name.strip())
    if not found:
        raise UsageError(f"{flag} names nothing", hint=hint)
    return found


def tokens(text: str) -> tuple[int, ...]:
    """Token ids and ranges of them (both ends included) with commas between: "5,9,128000-128010"."""
    found: list[int] = []
    for word in names(text, "--trainable-tokens", _TOKENS):
        match = _RANGE.fullmatch(word)
        if match is None:
            raise UsageError(f"{word} in --trainable-tokens is no token id", hint=_TOKENS)
        first, last = int(match[1]), int(match[2] or match[1])
        if not 0 <= last - first < _MOST_TOKENS:
            raise UsageError(f"{word} in --trainable-tokens is no range of tokens", hint=_TOKENS)
        found += range(first, last + 1)
    return tuple(found)


def require_tokens(recipe: Recipe, config: Mapping[str, Any]) -> None:
    """Raises UsageError for trainable tokens beyond the vocabulary that a config.json tells."""
    if not recipe.adapts or not recipe.trainable_tokens:
        return
    rows = vocabulary_size(config)
    if rows is not None and (last := max(recipe.trainable_tokens)) >= rows:
        raise UsageError(
            f"there is no token {last} to train: the model has {rows:,}", hint=f"at most {rows - 1}"
        )


def vocabulary_size(config: Mapping[str, Any]) -> int | None:
    """Tokens that a config.json tells of, its text part's where it has one."""
    parts = (config, *(value for value in config.values() if isinstance(value, Mapping)))
    return next((part["vocab_size"] for part in parts if isinstance(part.get("vocab_size"), int)), None)


_TOKENS = "ids and ranges, such as 5,9,128000-128010"


def patterns(flag: str) -> Callable[[tuple[str, ...]], tuple[Pattern, ...]]:
    """A parser of "REGEX=NUMBER" texts."""

    def parse(texts: tuple[str, ...]) -> tuple[Pattern, ...]:
        found: dict[str, int] = {}
        for text in texts:
            pattern, _, value = text.rpartition("=")
            if not pattern or not value.strip().isdigit():
                raise UsageError(f"{flag} {text} is not REGEX=NUMBER", hint=f"such as {flag} down_proj=16")
            found[pattern.strip()] = int(value)
        return tuple(found.items())

    return parse


_PARAMETERS = "such as experts.gate_up_proj,experts.down_proj"
_MODULES = "such as embed_tokens,lm_head"
PARSERS: Mapping[str, Callable[[Any], tuple[Any, ...]]] = {
    "target_modules": lambda text: target_modules(text) if isinstance(text, str) else text,
    "target_parameters": lambda text: names(text, "--target-parameters", _PARAMETERS),
    "modules_to_save": lambda text: names(text, "--modules-to-save", _MODULES),
    "trainable_tokens": tokens,
    "rank_pattern": patterns("--rank-pattern"),
    "alpha_pattern": patterns("--alpha-pattern"),
    "offload": lambda words: tuple(sorted({*words} - {"none"})),
}
"""By knob: from the text, or texts, of its flag."""


def targets(recipe: Recipe) -> str:
    """What the adapters are on: "q,k,v", "all linear layers", "modules that match ...", "experts.down_proj"."""
    modules = ",".join(name.removesuffix("_proj") for name in recipe.target_modules)
    if recipe.target_modules == ALL_LINEAR:
        modules = "all linear layers"
    elif modules.startswith(REGEX):
        modules = f"modules that match {recipe.target_modules[0].removeprefix(REGEX)}"
    return " and ".join(filter(None, (modules, ",".join(recipe.target_parameters))))


def trained_besides(recipe: Recipe) -> Iterator[str]:
    """What is not usual about the adapters, and what is trained beside them."""
    if recipe.dora:
        yield "DoRA"
    if recipe.rslora:
        yield "rsLoRA"
    for name, patterns in (("r", recipe.rank_pattern), ("alpha", recipe.alpha_pattern)):
        if patterns:
            yield ", ".join(f"{name} {value} on {pattern}" for pattern, value in patterns)
    if recipe.lora_bias:
        yield "biases on B"
    if recipe.bias != "none":
        yield "all biases trained" if recipe.bias == "all" else "biases of adapted layers trained"
    if recipe.modules_to_save:
        yield f"{', '.join(recipe.modules_to_save)} trained whole"
    if recipe.trainable_tokens:
        yield f"{len(recipe.trainable_tokens):,} tokens trained"
