"""The same text more than once: within train, with another answer, and in a split that should be unseen."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from .examples import Example

_NO_WORD = re.compile(r"[\W_]+")


@dataclass(frozen=True, kw_only=True, slots=True)
class Repeats:
    """How many examples of train repeat an earlier one, and how many of the other splits are in train."""

    exact: int
    normalised: int
    """Equal up to case, punctuation and spaces; exact ones not counted."""
    contradicting: int
    """Requests (normalised) that have more than one answer."""
    leaked: Mapping[str, int]
    """Examples of a split whose request (normalised) is in train, by split."""


def find_repeats(train: Sequence[Example], others: Mapping[str, Sequence[Example]]) -> Repeats:
    """Compare every example with train."""
    exact = _repeated(_dialogue(example) for example in train)
    alike = _repeated(tuple(map(normalised, _dialogue(example))) for example in train)
    answers: defaultdict[str, set[str]] = defaultdict(set)
    for example in train:
        answers[_request(example)].add(normalised(_said(example, "assistant")))
    return Repeats(
        exact=exact,
        normalised=alike - exact,
        contradicting=sum(len(different) > 1 for different in answers.values()),
        leaked={name: sum(_request(e) in answers for e in split) for name, split in others.items()},
    )


def normalised(text: str) -> str:
    """Lower case without punctuation and repeated spaces, compatible characters as one."""
    return _NO_WORD.sub(" ", unicodedata.normalize("NFKC", text).casefold()).strip()


def _repeated(keys: Iterable[object]) -> int:
    return sum(count - 1 for count in Counter(keys).values())


def _dialogue(example: Example) -> tuple[str, ...]:
    return tuple(f"{message.role} {message.content}" for message in example.messages)


def _request(example: Example) -> str:
    return normalised(_said(example, "user"))


def _said(example: Example, role: str) -> str:
    return "\n".join(message.content for message in example.messages if message.role == role)
