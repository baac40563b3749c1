"""One pass over a split as the model reads it: lengths, what shorter ones would cut, and the chat template's work."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...planner.data_report import Cut, LengthBin
from ...planner.tokens import TokenLengths
from .dialogue import Renderer
from .encoding import IGNORED, drafts
from .examples import Example
from .tokenizer import ChatTokenizer

LADDER = tuple(sorted({step * 2**power for step in (2, 3) for power in range(3, 17)}))
"""Candidate lengths: powers of two and the steps halfway between, from 16 tokens."""
PERCENTS = (50, 90, 95, 99, 100)
_MOST_CUTS = 6
_MOST_BINS = 12
_ROUND = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536)


@dataclass(frozen=True, kw_only=True, slots=True)
class Survey:
    """What one pass finds. Lengths are cut at the length asked for; `masked` samples have nothing to learn."""

    lengths: TokenLengths
    masked: int
    ends_untrained: int
    """Samples with an answer that ends without a token that says so."""
    answers_missing: int
    """Answers that are not found in the rendered text, and so carry no loss."""
    cuts: tuple[Cut, ...]
    own_template: bool
    merges_system: bool


def survey(examples: Sequence[Example], tokenizer: ChatTokenizer, max_length: int | None) -> Survey:
    """Look at every example as training would see it."""
    renderer = Renderer(tokenizer, "auto")
    total: list[int] = []
    supervised: list[int] = []
    masked = unended = missing = truncated = 0
    cut, lost, emptied = (dict.fromkeys(LADDER, 0) for _ in range(3))
    for example, draft in zip(examples, drafts(examples, tokenizer, renderer), strict=True):
        answers = sum(message.role == "assistant" for message in example.messages)
        missing += max(0, answers - len(draft.dialogue.answers))
        unended += draft.ends_untrained > 0
        learned = sum(label != IGNORED for label in draft.labels)
        shorter = [length for length in LADDER if length < len(draft.ids)]
        for length, gone in zip(shorter, draft.answer_tokens_lost(shorter), strict=True):
            cut[length] += 1
            lost[length] += gone
            emptied[length] += gone == learned
        encoded = draft.cut_to(max_length)
        masked += not encoded.supervised
        if encoded.supervised:
            truncated += encoded.truncated
            total.append(len(encoded.input_ids))
            supervised.append(encoded.supervised)
    lengths = TokenLengths(total=tuple(total), supervised=tuple(supervised), truncated=truncated)
    return Survey(
        lengths=lengths,
        masked=masked,
        ends_untrained=unended,
        answers_missing=missing,
        cuts=tuple(
            Cut(seq_len=n, samples=cut[n], answer_tokens=lost[n], emptied=emptied[n])
            for n in _candidates(total)
        ),
        own_template=renderer.own_template,
        merges_system=renderer.merges_system,
    )


def percentiles(numbers: Sequence[int]) -> dict[int, int]:
    """The smallest number that so many percent do not exceed (nearest rank)."""
    ordered = sorted(numbers)
    return {percent: ordered[-(-percent * len(ordered) // 100) - 1] for percent in PERCENTS}


def histogram(numbers: Sequence[int]) -> tuple[LengthBin, ...]:
    """At most `_MOST_BINS` bins of one round width, and where a few are far longer, one for all of those."""
    ordered = sorted(numbers)
    usual = ordered[-(-99 * len(ordered) // 100) - 1]
    least, most = ordered[0], usual if ordered[-1] > 2 * usual else ordered[-1]
    width = next(w for w in _ROUND if most // w - least // w < _MOST_BINS)
    bins: dict[int, int] = dict.fromkeys(range(least // width, most // width + 1), 0)
    beyond = 0
    for number in ordered:
        if number // width in bins:
            bins[number // width] += 1
        else:
            beyond += 1
    found = [LengthBin(first=i * width, last=(i + 1) * width - 1, samples=n) for i, n in bins.items()]
    if beyond:
        found.append(LengthBin(first=found[-1].last + 1, last=ordered[-1], samples=beyond))
    return tuple(found)


def _candidates(total: Sequence[int]) -> list[int]:
    """Lengths from half the median up to the longest, a few of them."""
    if not total:
        return []
    middle, longest = sorted(total)[len(total) // 2], max(total)
    found = [length for length in LADDER if middle // 2 <= length < longest]
    each = -(-len(found) // _MOST_CUTS) or 1
    return found[::-1][::each][::-1]
