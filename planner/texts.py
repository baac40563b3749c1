"""What tokenizing needs to know of a data set: how much text there is, and how much of it is tokenized together."""

from __future__ import annotations

from dataclasses import dataclass

TOGETHER = 512
"""Texts that are tokenized together, if they are short."""
CHARACTERS = 2**20
"""Of text that is tokenized together: a token takes some 300 bytes until its sample is encoded."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Texts:
    """A data set before and after tokenizing. All samples of all splits are read, those of training are tokenized."""

    samples: int
    messages: int
    """Those that a task gives to many samples not counted."""
    text_bytes: int
    """Of the messages and labels, as Python's texts."""
    tokens: int
    """Kept, in all training sequences together."""
    together: int
    """Tokens of the texts that are tokenized together, before anything is cut."""
    by_transformers: bool | None = None
    """Whether a class of transformers reads the tokenizer, which brings all of its libraries; None: not known."""


def tokens_together(texts: int, tokens: int, characters: int) -> int:
    """Tokens of the largest portion, where all texts are about equally long."""
    return round(tokens * min(1.0, TOGETHER / max(1, texts), CHARACTERS / max(1, characters)))
