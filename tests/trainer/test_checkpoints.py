import errno
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from real_worker import RECIPE, STEPS, fill, learned, work, write_job
from safetensors.torch import load_file

from lplan.trainer.checkpoints import damage_of, list_checkpoints, newest_good, write_checkpoint
from lplan.trainer.data.batching import LengthGroupedBatches
from lplan.trainer.tensor_file import write_tensors


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = fill(tmp_path_factory.mktemp("undisturbed"))
    ended = work(folder)
    assert ended.returncode == 0, ended.stderr
    return folder


def without_later(undisturbed: Path, folder: Path, step: int) -> Path:
    """The run as a kill right after `step` would have left it."""
    fill(folder)
    kept = next(c for c in list_checkpoints(undisturbed / "checkpoints") if c.step == step)
    shutil.copytree(kept.path, folder / "checkpoints" / kept.path.name)
    return folder


def test_tensors_are_as_safetensors_reads_them(tmp_path: Path) -> None:
    torch.manual_seed(0)
    tensors = {
        "matrix": torch.randn(3, 5).t(),
        "half": torch.randn(7).to(torch.bfloat16),
        "count": torch.tensor(3.0),
        "empty": torch.empty(0, 4),
        "codes": torch.arange(9, dtype=torch.uint8),
    }
    write_tensors(tmp_path / "file", tensors)
    read = load_file(tmp_path / "file")
    assert read.keys() == tensors.keys()
    assert all(torch.equal(read[name], tensor) for name, tensor in tensors.items())
    assert all(read[name].dtype == tensor.dtype for name, tensor in tensors.items())


def test_the_two_newest_checkpoints_are_kept(undisturbed: Path) -> None:
    assert [c.step for c in list_checkpoints(undisturbed / "checkpoints")] == [STEPS, STEPS - 2]


def test_a_checkpoint_holds_no_pickle(undisturbed: Path) -> None:
    for checkpoint in list_checkpoints(undisturbed / "checkpoints"):
        assert {path.suffix for path in checkpoint.path.iterdir()} == {".json", ".safetensors"}


def test_a_continued_run_learns_the_same_to_the_bit(undisturbed: Path, tmp_path: Path) -> None:
    folder = without_later(undisturbed, tmp_path, STEPS - 2)
    ended = work(folder)
    assert ended.returncode == 0, ended.stderr
    expected, found = learned(undisturbed), learned(folder)
    assert expected.keys() == found.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


def test_a_smaller_micro_batch_takes_the_same_steps(tmp_path: Path) -> None:
    """Without dropout, whose masks are drawn for a whole micro batch: then rounding is all that differs."""
    whole, smaller = fill(tmp_path / "whole", replace(RECIPE, dropout=0.0)), tmp_path / "smaller"
    assert work(whole).returncode == 0
    without_later(whole, smaller, STEPS - 2)
    recipe = replace(RECIPE, dropout=0.0, batch_size=1, accumulation=8)
    write_job(smaller, recipe, order_batch=4)
    ended = work(smaller)
    assert ended.returncode == 0, ended.stderr
    expected, found = learned(whole), learned(smaller)
    moved = max(float(tensor.abs().max()) for tensor in expected.values())
    apart = max(float((found[name] - tensor).abs().max()) for name, tensor in expected.items())
    assert moved > 0.01
    assert apart < 1e-4 * moved
    state = json.loads((smaller / "checkpoints" / f"step-{STEPS:08d}" / "trainer_state.json").read_text())
    assert state["global_step"] == STEPS


@pytest.mark.parametrize("samples", [21, 24, 25, 3])
@pytest.mark.parametrize("piece", [1, 2, 4])
def test_pieces_keep_every_steps_samples(samples: int, piece: int) -> None:
    lengths = [8 + 7 * i % 25 for i in range(samples)]

    def steps(of: int) -> list[list[int]]:
        batches = list(LengthGroupedBatches(lengths, 4, seed=1, piece=of))
        assert len(batches) == len(LengthGroupedBatches(lengths, 4, seed=1, piece=of))
        per_step = 8 // of
        return [
            sorted(i for batch in batches[start : start + per_step] for i in batch)
            for start in range(0, len(batches), per_step)
        ]

    assert steps(piece) == steps(4)


def _two(folder: Path) -> None:
    for step in (3, 5):
        write_checkpoint(folder, step, lambda aside: (aside / "data").write_bytes(bytes(100)) and None)


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[50] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        (lambda path: (path / "data").write_bytes(bytes(60)), "60 bytes instead of 100"),
        (lambda path: _flip(path / "data"), "data has changed"),
        (lambda path: (path / "data").unlink(), "data is missing"),
        (lambda path: (path / "manifest.json").write_text('{"files": {'), "manifest.json cannot be read"),
        (lambda path: (path / "manifest.json").unlink(), "manifest.json cannot be read"),
    ],
)
def test_a_damaged_checkpoint_gives_way_to_the_one_before(tmp_path: Path, harm: Any, says: str) -> None:
    _two(tmp_path)
    harm(tmp_path / "step-00000005")
    good, (damage,) = newest_good(tmp_path)
    assert good is not None
    assert good.step == 3
    assert says in damage


def test_what_an_interrupted_write_left_is_removed(tmp_path: Path) -> None:
    _two(tmp_path)
    (tmp_path / ".step-00000007.part").mkdir()
    good, damaged = newest_good(tmp_path)
    assert good is not None
    assert (good.step, damaged) == (5, [])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000003", "step-00000005"]


def test_a_full_disk_leaves_the_checkpoints_before(tmp_path: Path) -> None:
    _two(tmp_path)

    def full(aside: Path) -> None:
        (aside / "half").write_bytes(b"x")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        write_checkpoint(tmp_path, 7, full)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000003", "step-00000005"]
    assert all(damage_of(checkpoint) is None for checkpoint in list_checkpoints(tmp_path))
