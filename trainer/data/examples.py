"""What a data set is: dialogues, told apart into train, validation and test."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Role = Literal["system", "user", "assistant"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Message:
    """One turn of a dialogue."""

    role: Role
    content: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Example:
    """A dialogue with at least one assistant turn; `label` is its class where the data has classes."""

    messages: tuple[Message, ...]
    label: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class DataSet:
    """The examples of a data set, each split in file order, and where they came from."""

    train: tuple[Example, ...]
    validation: tuple[Example, ...]
    test: tuple[Example, ...]
    location: str
    format: str
    """Such as csv, jsonl, parquet, folder, demo, hub."""
    task: str | None
    fingerprint: str
    """SHA-256 over the files' bytes; for a folder over train, validation and test in this order."""

    @property
    def samples(self) -> int:
        """Examples in all splits."""
        return len(self.train) + len(self.validation) + len(self.test)
