"""From a data set and a model to token sequences: what plans are made for and workers train on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..planner.plan import DataReference
from ..planner.tokens import TokenLengths
from ..profiles.errors import LplanError
from .data.encoding import EncodedSet, encode_all, token_lengths
from .data.examples import DataSet, Example
from .data.readers import read_examples
from .data.tasks import find_task
from .data.tokenizer import load_tokenizer, pad_token_id

HELD_OUT_SAMPLES = 64
"""At most so many samples are scored at the end of a run: an evaluation should not take longer than training."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Prepared:
    """Encoded splits, and what the planner needs to know of them."""

    train: EncodedSet
    validation: EncodedSet
    pad_token_id: int
    lengths: TokenLengths
    reference: DataReference


def prepare_data(
    location: str, *, task: str | None, tokenizer: Path | str, max_length: int | None
) -> Prepared:
    """Read, split and encode a data set.

    Raises UsageError or LplanError for data that cannot be trained on.
    """
    data = read_examples(location, task=task)
    _require(data)
    made = load_tokenizer(tokenizer)
    train = encode_all(data.train, made, max_length=max_length)
    held_out = data.validation or data.test
    lengths = token_lengths(train)
    return Prepared(
        train=train,
        validation=encode_all(spread_out(held_out, HELD_OUT_SAMPLES), made, max_length=max_length),
        pad_token_id=pad_token_id(made),
        lengths=lengths,
        reference=DataReference(
            location=data.location if data.format in ("demo", "hub") else str(Path(data.location).resolve()),
            task=find_task(data.task).name,
            fingerprint=data.fingerprint,
            samples=len(train),
            longest_tokens=lengths.longest,
        ),
    )


def spread_out(items: Sequence[Example], most: int) -> Sequence[Example]:
    """At most `most` of the items, evenly spread."""
    if len(items) <= most:
        return items
    return [items[index * len(items) // most] for index in range(most)]


def _require(data: DataSet) -> None:
    if not data.train:
        raise LplanError(f"{data.location} has no training examples", hint="check the file's rows")
