"""From a data set and a model to token sequences: what plans are made for and workers train on."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from ..planner.plan import DataReference
from ..planner.request import context_length, require_context
from ..planner.texts import Texts, tokens_together
from ..planner.tokens import TokenLengths
from ..profiles.errors import LplanError
from ..profiles.model import ModelProfile
from .data.encoding import EncodedSet, encode_all, token_lengths
from .data.examples import DataSet, Example
from .data.readers import read_examples
from .data.tasks import find_task
from .data.tokenizer import ChatTokenizer, LightTokenizer, load_tokenizer, pad_token_id

HELD_OUT_SAMPLES = 64
"""At most so many samples are scored at the end of a run: an evaluation should not take longer than training."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Prepared:
    """Encoded splits, and what the planner needs to know of them."""

    train: EncodedSet
    validation: EncodedSet
    pad_token_id: int
    lengths: TokenLengths
    texts: Texts
    reference: DataReference


def usual_values(task: str | None) -> Mapping[str, Any]:
    """A task's usual hyper-parameters by name. Raises UsageError for a task that there is not."""
    return asdict(find_task(task).defaults)


def prepare_data(
    location: str, model: ModelProfile, *, task: str | None = None, max_length: int | None = None
) -> Prepared:
    """Read, split and encode a data set for a model; sequences end at `max_length`, or at the model's context.

    Only the tokenizer's files are fetched, after the data was read. Raises UsageError or LplanError for data
    that cannot be trained on.
    """
    require_context(model, max_length)
    data = read_examples(location, task=task)
    tokenizer = load_tokenizer(tokenizer_of(model), trust_remote_code=model.trust_remote_code)
    train = encode_all(data.train, tokenizer, max_length=max_length or context_length(model.config))
    lengths = token_lengths(train)
    held_out = spread_out(data.validation or data.test, HELD_OUT_SAMPLES)
    return Prepared(
        train=train,
        validation=_held_out(held_out, tokenizer, lengths.longest),
        pad_token_id=pad_token_id(tokenizer),
        lengths=lengths,
        texts=_texts(data, train, tokenizer),
        reference=DataReference(
            location=location
            if data.format in ("demo", "hub")
            else str(Path(location).expanduser().resolve()),
            task=find_task(data.task).name,
            fingerprint=data.fingerprint,
            samples=len(train),
            longest_tokens=lengths.longest,
        ),
    )


def _texts(data: DataSet, train: EncodedSet, tokenizer: ChatTokenizer) -> Texts:
    task = find_task(data.task)
    shared = {task.system_prompt, *task.responses.values()}
    messages = text_bytes = 0
    for example in chain(data.train, data.validation, data.test):
        own = [message.content for message in example.messages if message.content not in shared]
        messages += len(own)
        text_bytes += sum(map(sys.getsizeof, own)) + (sys.getsizeof(example.label) if example.label else 0)
    return Texts(
        samples=data.samples,
        messages=messages,
        text_bytes=text_bytes,
        tokens=len(train.ids),
        together=tokens_together(len(data.train), train.read_tokens, train.read_characters),
        by_transformers=not isinstance(tokenizer, LightTokenizer),
    )


def spread_out(items: Sequence[Example], most: int) -> Sequence[Example]:
    """At most `most` of the items, evenly spread."""
    if len(items) <= most:
        return items
    return [items[index * len(items) // most] for index in range(most)]


def tokenizer_of(model: ModelProfile) -> Path | str:
    """Where a model's tokenizer is: a folder or a hub id."""
    if isinstance(model.location, Path):
        return model.location if model.location.is_dir() else model.location.parent
    return model.location or model.id


def _held_out(examples: Sequence[Example], tokenizer: ChatTokenizer, longest: int) -> EncodedSet:
    """Held-out sequences, none longer than those that memory was planned for; empty where none can be scored."""
    try:
        return encode_all(examples, tokenizer, max_length=longest)
    except LplanError:
        return EncodedSet(ids=array("i"), marks=bytearray(), offsets=array("q", [0]), truncated=0, dropped=0)
