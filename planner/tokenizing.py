"""What reading and tokenizing a data set hold in the process that does it, before any worker starts.

What Python and its arrays take of a sample and a token follows from how they are kept (docs/memory-model.md); what a
process and a tokenizer take is fitted by benchmarks/fit_data.py to the processes of benchmarks/tokenizing.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .constants import constants
from .residuals import Residuals
from .texts import CHARACTERS, TOGETHER, Texts

SUPPOSED_SAMPLES = 10_000
"""As many as Banking77 has."""
_MESSAGES = 2
"""A request and its answer."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Tokenizing:
    """The peak of the process, by components, in bytes, and its range. `file_bytes` of it are pages of files."""

    components: Mapping[str, int]
    file_bytes: int
    low_bytes: int
    high_bytes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Costs:
    """Bytes: of the process as such, of one whose tokenizer brings transformers' libraries (and of both their files'
    pages), for each of the tokenizer's entries while it is read and afterwards, for each sample and message, for each
    token kept or at hand."""

    process_bytes: float
    process_file_bytes: float
    transformers_bytes: float
    transformers_file_bytes: float
    entry_reading_bytes: float
    entry_bytes: float
    sample_bytes: float
    message_bytes: float
    token_bytes: float
    together_bytes: float

    def of(self, texts: Texts, entries: int, *, by_transformers: bool) -> dict[str, int]:
        """The components: either the tokenizer has just been read, or the last texts are being tokenized."""
        objects = texts.samples * self.sample_bytes + texts.messages * self.message_bytes
        made = texts.tokens * self.token_bytes + texts.together * self.together_bytes
        reading = entries * (self.entry_reading_bytes - self.entry_bytes)
        process = self.transformers_bytes if by_transformers else self.process_bytes
        return {
            "runtime": round(process + entries * self.entry_bytes),
            "data": round(objects + texts.text_bytes + max(made, reading)),
        }


def tokenizing(texts: Texts, entries: int) -> Tokenizing:
    """The peak for a tokenizer of so many entries. While it isn't known whether it brings libraries, it may."""
    known, by_transformers = Costs(**constants("data")["costs"]), texts.by_transformers is True
    components = known.of(texts, entries, by_transformers=by_transformers)
    found = constants("data")["residuals"]
    spread = Residuals(worst=tuple(found["worst"]), doubt_bytes=found["doubt_bytes"]).spread()
    low, high = spread.around(sum(components.values()))
    if texts.by_transformers is None:
        _, high = spread.around(sum(known.of(texts, entries, by_transformers=True).values()))
    return Tokenizing(
        components=components,
        file_bytes=round(known.transformers_file_bytes if by_transformers else known.process_file_bytes),
        low_bytes=low,
        high_bytes=high,
    )


def supposed(seq_len: int, samples: int = SUPPOSED_SAMPLES) -> Texts:
    """A data set of which only the longest sequence is known: all are as long."""
    found = constants("data")["text"]
    characters = seq_len * found["characters_per_token"]
    return Texts(
        samples=samples,
        messages=_MESSAGES * samples,
        text_bytes=round(samples * (characters + _MESSAGES * found["string_bytes"])),
        tokens=samples * seq_len,
        together=round(seq_len * min(samples, TOGETHER, max(1.0, CHARACTERS / characters))),
    )
