"""Encoded samples as batches of tensors."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Dataset

from ..planner.recipe import Loss
from ..planner.tokens import round_up
from ..planner.tracing.objective import IGNORED, supervised_positions
from .job import Job, TokenFile

Sample = tuple[Tensor, Tensor]
"""(input_ids, labels), both (S,) int64."""


class TokenDataset(Dataset[Sample]):
    """The samples of a TokenFile, which stays on disk: only what a batch takes is copied."""

    def __init__(self, file: TokenFile) -> None:
        self.offsets, self.ids, self.marks = file.offsets(), file.ids(), file.marks()
        self.chosen: Sequence[int] = range(len(self.offsets) - 1)

    def __len__(self) -> int:
        return len(self.chosen)

    def __getitem__(self, index: int) -> Sample:
        sample = self.chosen[index]
        here = slice(self.offsets[sample], self.offsets[sample + 1])
        ids = torch.frombuffer(bytearray(self.ids[here]), dtype=torch.int32).long()
        marks = torch.frombuffer(bytearray(self.marks[here]), dtype=torch.bool)
        return ids, torch.where(marks, ids, IGNORED)

    def lengths(self) -> list[int]:
        """Tokens of each sample."""
        return [self.offsets[sample + 1] - self.offsets[sample] for sample in self.chosen]

    def longest(self, count: int) -> TokenDataset:
        """Its longest samples, on the same mapped tokens."""
        lengths, few = self.lengths(), copy(self)
        order = sorted(range(len(self)), key=lambda index: -lengths[index])
        few.chosen = [self.chosen[index] for index in order[:count]]
        return few


class Collator:
    """Pads to the longest of the batch, rounded up to a multiple of `multiple`.

    Batches without padding go without a mask, on the maskless causal path.
    """

    def __init__(self, pad_token_id: int, loss: Loss, multiple: int = 1) -> None:
        self.pad_token_id = pad_token_id
        self.loss = loss
        self.multiple = multiple

    def __call__(self, samples: Sequence[Sample]) -> dict[str, Any]:
        """input_ids, labels (B, S); attention_mask (B, S) if padded; positions, targets (N,) if selected."""
        longest = round_up(max(len(ids) for ids, _ in samples), self.multiple)
        shape = (len(samples), longest)
        batch = {
            "input_ids": torch.full(shape, self.pad_token_id, dtype=torch.long),
            "labels": torch.full(shape, IGNORED, dtype=torch.long),
        }
        mask = torch.zeros(shape, dtype=torch.long)
        for row, (ids, labels) in enumerate(samples):
            batch["input_ids"][row, : len(ids)] = ids
            batch["labels"][row, : len(ids)] = labels
            mask[row, : len(ids)] = 1
        if not bool(mask.all()):
            batch["attention_mask"] = mask
        return _selected(batch, self.loss, self.multiple)


class Packer:
    """One row of all sequences, kept apart by positions that begin anew, as transformers' DataCollatorWithFlattening
    makes it: no token predicts the first of the next sequence.

    Rows end in padding to a multiple of `multiple`, a sequence of its own without loss.
    """

    def __init__(self, pad_token_id: int, loss: Loss, multiple: int = 1) -> None:
        self.pad_token_id, self.loss, self.multiple = pad_token_id, loss, multiple

    def __call__(self, samples: Sequence[Sample]) -> dict[str, Any]:
        """input_ids, labels, position_ids (1, T); positions, targets (N,) if selected."""
        tokens = sum(len(ids) for ids, _ in samples)
        missing = round_up(tokens, self.multiple) - tokens
        if missing:
            tail = torch.full((missing,), self.pad_token_id), torch.full((missing,), IGNORED)
            samples = [*samples, tail]
        labels = [F.pad(marked[1:], (1, 0), value=IGNORED) for _, marked in samples]
        batch = {
            "input_ids": torch.cat([ids for ids, _ in samples])[None],
            "labels": torch.cat(labels)[None],
            "position_ids": torch.cat([torch.arange(len(ids)) for ids, _ in samples])[None],
        }
        return _selected(batch, self.loss, self.multiple)


def collator(job: Job) -> Collator | Packer:
    """What makes the batches of a job."""
    recipe = job.recipe
    if recipe.padding == "packed":
        return Packer(job.pad_token_id, recipe.loss, recipe.row_multiple)
    return Collator(job.pad_token_id, recipe.loss, recipe.pad_to_multiple_of)


def _selected(batch: dict[str, Any], loss: Loss, multiple: int) -> dict[str, Any]:
    if loss != "full":
        positions, targets = supervised_positions(batch["labels"])
        missing = round_up(len(targets), multiple) - len(targets)
        batch["positions"] = F.pad(positions, (0, missing))
        batch["targets"] = F.pad(targets, (0, missing), value=IGNORED)
    return batch
