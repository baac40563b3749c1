"""Examples as token ids with labels: loss on the assistant's words and the token that ends them."""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from ...planner.texts import CHARACTERS, TOGETHER
from ...planner.tokens import TokenLengths
from ...profiles.errors import LplanError
from .dialogue import Dialogue, Renderer, Span, Template
from .examples import Example
from .tokenizer import ChatTokenizer

IGNORED = -100
"""The label of a token without loss."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Encoded:
    """One training sequence. `labels[i]` is `input_ids[i]` where there is loss, else IGNORED (not shifted)."""

    input_ids: tuple[int, ...]
    labels: tuple[int, ...]
    truncated: bool = False

    @property
    def supervised(self) -> int:
        """Tokens that carry loss."""
        return sum(label != IGNORED for label in self.labels)


@dataclass(frozen=True, kw_only=True, slots=True)
class EncodedSet(Sequence[Encoded]):
    """Many sequences in flat arrays, or mapped files: five bytes a token, where tuples of int would take fifty."""

    ids: array[int] | memoryview
    marks: bytearray | memoryview
    """1 for tokens with loss."""
    offsets: array[int] | memoryview
    """Where each sequence begins, and the end."""
    truncated: int
    """Sequences that were cut to the length asked for."""
    dropped: int
    """Examples left out because cutting them left nothing to learn."""
    read_tokens: int = 0
    """Of all examples, before anything was cut."""
    read_characters: int = 0

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> Encoded:  # type: ignore[override]
        position = range(len(self))[index]
        here = slice(self.offsets[position], self.offsets[position + 1])
        ids, marks = self.ids[here], self.marks[here]
        labels = tuple(t if mark else IGNORED for t, mark in zip(ids, marks, strict=True))
        return Encoded(input_ids=tuple(ids), labels=labels)


def encode(
    example: Example, tokenizer: ChatTokenizer, *, template: Template = "auto", max_length: int | None = None
) -> Encoded:
    """One example in the model's own chat template, or ("auto" without one, "llama-2") Llama 2's format.

    Special tokens are the template's alone, so that none is doubled. Text after the last answer's end token is
    left out; where a template ends an answer with no token of its own, the tokenizer's end token is appended.
    Every assistant turn carries loss.

    A sequence over `max_length` tokens loses text of the user, oldest first, from its beginning; system
    prompt, answers and markup stay. Only when that isn't enough its end is cut off as well.
    """
    return next(drafts([example], tokenizer, Renderer(tokenizer, template))).cut_to(max_length)


def encode_all(
    examples: Sequence[Example],
    tokenizer: ChatTokenizer,
    *,
    template: Template = "auto",
    max_length: int | None = None,
) -> EncodedSet:
    """`encode` for many. Raises LplanError when no example has anything left to learn."""
    ids, marks, offsets = array("i"), bytearray(), array("q", [0])
    truncated = dropped = tokens = characters = 0
    for draft in drafts(examples, tokenizer, Renderer(tokenizer, template)):
        tokens += len(draft.ids)
        characters += len(draft.dialogue.text)
        one = draft.cut_to(max_length)
        if not one.supervised:
            dropped += 1
            continue
        ids.extend(one.input_ids)
        marks.extend(label != IGNORED for label in one.labels)
        offsets.append(len(ids))
        truncated += one.truncated
    if examples and dropped == len(examples):
        raise LplanError(
            "no token carries loss: every label is masked",
            hint=f"the sequence length {max_length} leaves no room for the answers; allow more",
        )
    return EncodedSet(
        ids=ids,
        marks=marks,
        offsets=offsets,
        truncated=truncated,
        dropped=dropped,
        read_tokens=tokens,
        read_characters=characters,
    )


def token_lengths(encoded: EncodedSet) -> TokenLengths:
    """The lengths that the planner needs."""
    return TokenLengths(
        total=tuple(end - start for start, end in pairwise(encoded.offsets)),
        supervised=tuple(sum(encoded.marks[start:end]) for start, end in pairwise(encoded.offsets)),
        truncated=encoded.truncated,
    )


def drafts(examples: Sequence[Example], tokenizer: ChatTokenizer, renderer: Renderer) -> Iterator[Draft]:
    """Every example as a sequence with its labels, before anything is cut."""
    added = frozenset(tokenizer.get_added_vocab().values())
    for dialogues in _portions(map(renderer.dialogue, examples)):
        for dialogue, ids, offsets in zip(dialogues, *_tokenised(dialogues, tokenizer), strict=True):
            draft = Draft(dialogue, list(ids), offsets)
            draft.supervise(added, tokenizer.eos_token_id)
            yield draft


def _portions(dialogues: Iterable[Dialogue]) -> Iterator[list[Dialogue]]:
    portion: list[Dialogue] = []
    characters = 0
    for dialogue in dialogues:
        portion.append(dialogue)
        characters += len(dialogue.text)
        if len(portion) == TOGETHER or characters >= CHARACTERS:
            yield portion
            portion, characters = [], 0
    if portion:
        yield portion


def _tokenised(
    dialogues: Sequence[Dialogue], tokenizer: ChatTokenizer
) -> tuple[list[list[int]], list[list[Span]]]:
    texts = [dialogue.text for dialogue in dialogues]
    try:
        encoded = tokenizer(texts, add_special_tokens=False, return_offsets_mapping=True)
    except NotImplementedError as error:
        message = "this tokenizer can't say which characters a token stands for"
        raise LplanError(message, hint="convert it to a tokenizer.json (a fast tokenizer)") from error
    return encoded["input_ids"], encoded["offset_mapping"]


class Draft:
    """One sequence in the making: `ids` and `labels` of equal length."""

    def __init__(self, dialogue: Dialogue, ids: list[int], offsets: Sequence[Span]) -> None:
        self.dialogue = dialogue
        self.ids = ids
        self.labels = [IGNORED] * len(ids)
        self.ends_untrained = 0
        """Answers that end without a token that says so."""
        self._offsets = offsets
        self._starts = [start for start, _ in offsets]
        self._ends = [end for _, end in offsets]

    def supervise(self, added: frozenset[int], eos_token_id: int | None) -> None:
        """Label the answers' tokens, a token that overlaps an answer's edge included, and their end tokens."""
        stop = 0
        for start, end in self.dialogue.answers:
            first = bisect_right(self._ends, start)
            behind = bisect_left(self._starts, end)
            stop = self._end_token(behind, added)
            self.labels[first:stop] = self.ids[first:stop]
            self.ends_untrained += stop == behind
        ended = stop > 0 and self.ids[stop - 1] in added
        del self.ids[stop:], self.labels[stop:]
        if not ended and eos_token_id is not None and stop:
            self.ids.append(eos_token_id)
            self.labels.append(eos_token_id)
            self.ends_untrained -= 1

    def _end_token(self, behind: int, added: frozenset[int]) -> int:
        """The index behind the marker that follows an answer, blanks between them included; else `behind`."""
        at = behind
        while at < len(self.ids):
            if self.ids[at] in added:
                return at + 1
            if self.dialogue.text[self._starts[at] : self._ends[at]].strip():
                break
            at += 1
        return behind

    def cut_to(self, max_length: int | None) -> Encoded:
        """The sequence with as much of the requests, then of its end, gone as `max_length` demands."""
        excess = 0 if max_length is None else len(self.ids) - max_length
        if excess <= 0:
            return Encoded(input_ids=tuple(self.ids), labels=tuple(self.labels))
        gone = set(self._cuttable()[:excess])
        kept = [i for i in range(len(self.ids)) if i not in gone][:max_length]
        return Encoded(
            input_ids=tuple(self.ids[i] for i in kept),
            labels=tuple(self.labels[i] for i in kept),
            truncated=True,
        )

    def answer_tokens_lost(self, max_lengths: Sequence[int]) -> list[int]:
        """Tokens with loss that `cut_to` each of these lengths would take away."""
        cuttable = set(self._cuttable())
        fixed = [label != IGNORED for i, label in enumerate(self.labels) if i not in cuttable]
        return [sum(fixed[max(0, length) :]) if length < len(fixed) else 0 for length in max_lengths]

    def _cuttable(self) -> list[int]:
        """Indices of tokens that lie within requests, in order."""
        spans = (
            range(bisect_left(self._starts, start), bisect_right(self._ends, end))
            for start, end in self.dialogue.requests
        )
        return [i for span in spans for i in span if i < len(self.labels) and self.labels[i] == IGNORED]
