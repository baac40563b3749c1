"""Encoded samples, mapped, as batches of tensors."""

import subprocess
import sys
from array import array

import pytest
import torch

from lplan.planner.tracing.objective import IGNORED
from lplan.trainer.batches import Collator, TokenDataset
from lplan.trainer.data.encoding import EncodedSet, token_lengths
from lplan.trainer.job import TokenFile


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


def written(folder, count, tokens):
    """Samples of ever other lengths, `tokens` at most: the second half of each has loss."""
    ids, marks, offsets = array("i"), bytearray(), array("q", [0])
    for number in range(count):
        length = tokens - number % 7
        ids.extend((number + place) % 30_000 for place in range(length))
        marks.extend(place >= length // 2 for place in range(length))
        offsets.append(len(ids))
    encoded = EncodedSet(ids=ids, marks=marks, offsets=offsets, truncated=0, dropped=0)
    TokenFile(folder, "train").write(encoded)
    return encoded


def test_samples_are_those_that_were_written(tmp_path):
    encoded = written(tmp_path, count=20, tokens=12)
    dataset = TokenDataset(TokenFile(tmp_path, "train"))
    assert len(dataset) == 20
    assert dataset.lengths() == [len(one.input_ids) for one in encoded]
    for (ids, labels), one in zip(dataset, encoded, strict=False):
        assert (tuple(ids.tolist()), tuple(labels.tolist())) == (one.input_ids, one.labels)
        assert ids.dtype == labels.dtype == torch.int64
    assert token_lengths(TokenFile(tmp_path, "train").encoded()) == token_lengths(encoded)


def test_a_split_without_samples(tmp_path):
    TokenFile(tmp_path, "validation").write(
        EncodedSet(ids=array("i"), marks=bytearray(), offsets=array("q", [0]), truncated=0, dropped=0)
    )
    assert len(TokenDataset(TokenFile(tmp_path, "validation"))) == 0


_READ_ALL = """
import sys
from pathlib import Path
from lplan.trainer.batches import TokenDataset
from lplan.trainer.job import TokenFile
from lplan.trainer.process_tree import usage_of
before = usage_of("self")
dataset = TokenDataset(TokenFile(Path(sys.argv[1]), "train"))
supervised = sum(int((labels >= 0).sum()) for _, labels in (dataset[i] for i in range(len(dataset))))
after = usage_of("self")
print(supervised, after.anonymous_bytes - before.anonymous_bytes, after.file_bytes - before.file_bytes)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="/proc/self/status")
def test_tokens_of_a_run_are_no_memory_of_its_own(tmp_path):
    """200 MB of tokens, all of them read, are pages of the files, which the kernel can drop."""
    count, length = 20_000, 2_000
    ids = array("i", range(length))
    with (tmp_path / "train.ids.bin").open("wb") as file:
        for _ in range(count):
            ids.tofile(file)
    with (tmp_path / "train.marks.bin").open("wb") as file:
        file.truncate(count * length)
        file.write(b"\1" * length)
    (tmp_path / "train.offsets.bin").write_bytes(array("q", range(0, count * length + 1, length)))
    command = [sys.executable, "-c", _READ_ALL, str(tmp_path)]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    supervised, anonymous, pages = map(int, told.split())
    assert supervised == length
    assert pages > 190e6
    assert anonymous < 8e6
