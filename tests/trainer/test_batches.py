"""Encoded samples as batches of tensors."""

import torch

from lplan.planner.tracing.objective import IGNORED
from lplan.trainer.batches import Collator


def sample(*tokens, supervised_from):
    ids = torch.tensor(tokens)
    labels = torch.where(torch.arange(len(tokens)) >= supervised_from, ids, IGNORED)
    return ids, labels


def test_shorter_rows_are_padded_on_the_right_and_masked():
    batch = Collator(2, "full")([sample(5, 6, 7, supervised_from=1), sample(8, supervised_from=0)])
    assert batch["input_ids"].tolist() == [[5, 6, 7], [8, 2, 2]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]
    assert batch["labels"].tolist() == [[IGNORED, 6, 7], [8, IGNORED, IGNORED]]


def test_rows_of_one_length_go_without_a_mask():
    batch = Collator(2, "full")([sample(5, 6, supervised_from=1), sample(8, 9, supervised_from=1)])
    assert batch.keys() == {"input_ids", "labels"}


def test_padding_to_a_multiple():
    batch = Collator(0, "full", 4)([sample(5, 6, supervised_from=1)])
    assert batch["input_ids"].tolist() == [[5, 6, 0, 0]]
    assert batch["attention_mask"].tolist() == [[1, 1, 0, 0]]
    assert batch["input_ids"].dtype == batch["labels"].dtype == torch.int64


def test_positions_predict_the_supervised_tokens():
    batch = Collator(0, "supervised")(
        [sample(5, 6, 7, supervised_from=1), sample(8, 9, 4, supervised_from=2)]
    )
    assert batch["positions"].tolist() == [0, 1, 4]
    assert batch["targets"].tolist() == [6, 7, 4]


def test_selected_positions_are_padded_without_loss():
    batch = Collator(0, "supervised", 4)([sample(5, 6, 7, 8, supervised_from=1)])
    assert batch["positions"].tolist() == [0, 1, 2, 0]
    assert batch["targets"].tolist() == [6, 7, 8, IGNORED]
