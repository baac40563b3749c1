"""What a data set looks like to a model: lengths, batches, labels, and what may be wrong with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

DATA_SCHEMA = "lplan.data/1"


@dataclass(frozen=True, kw_only=True, slots=True)
class LengthBin:
    """Samples of `first` to `last` tokens, both included."""

    first: int
    last: int
    samples: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Cut:
    """What a sequence length would cut. `emptied` samples would be left without an answer to learn."""

    seq_len: int
    samples: int
    answer_tokens: int
    emptied: int


@dataclass(frozen=True, kw_only=True, slots=True)
class WorstBatch:
    """The costliest micro batch that occurs: `rows` x `seq_len` tokens, padding included."""

    batch_size: int
    rows: int
    seq_len: int
    tokens: int
    """Tokens without padding."""
    supervised: int
    """Tokens that carry loss."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PaddingWaste:
    """Shares of all computed tokens that are padding, by how batches are made."""

    batch_size: int
    shuffled: float
    """Batches in random order, padded to their longest."""
    grouped: float
    """Grouped by length and padded in buckets, as fit-and-train does."""
    packed: float
    """Whole sequences packed into rows that are as long as `batch_size` of the longest."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelCount:
    """Examples of one label, by split."""

    label: str
    train: int
    held_out: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """Something to know before training: what, how often, and why it matters."""

    check: str
    count: int
    text: str
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class DataReport:
    """A data set as one model sees it; lengths are those of the train split, cut as training would cut them."""

    location: str
    format: str
    task: str
    model: str
    splits: Mapping[str, int]
    """Examples by split; where the data has no validation split, a tenth of train is held out."""
    template: str
    """The chat template that is used, in words."""
    percentiles: Mapping[int, int]
    """Tokens of a sequence, by percent of the samples that have no more; 100 is the longest."""
    answer_percentiles: Mapping[int, int]
    """The same of the tokens that carry loss."""
    tokens: int
    supervised_tokens: int
    histogram: tuple[LengthBin, ...]
    cuts: tuple[Cut, ...]
    worst_batches: tuple[WorstBatch, ...]
    padding: tuple[PaddingWaste, ...]
    labels: tuple[LabelCount, ...]
    """The most frequent first; empty where the data has none."""
    findings: tuple[Finding, ...]

    def document(self) -> dict[str, Any]:
        """`lplan data --json`."""
        return {"schema": DATA_SCHEMA, **asdict(self)}
