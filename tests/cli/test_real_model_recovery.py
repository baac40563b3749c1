"""A real pretrained model (SmolLM2-135M-Instruct), killed in the middle: its loss curve is the undisturbed one's."""

import pytest
import torch
from recovered import (
    MIB,
    kill_the_worker,
    losses,
    lower_the_limit,
    require_lowered,
    require_recovered,
    somebody,
)
from safetensors.torch import load_file

from lplan.benchmarks.checkpoints import checkpoint
from lplan.planner.events import read
from lplan.profiles.cgroup import writable_memory_group
from lplan.profiles.errors import LplanError
from lplan.trainer.demo_model import find_gguf

pytestmark = pytest.mark.slow

STEPS, EFFECTIVE_BATCH = 6, 8
LOWERED_BYTES = 1600 * MIB
"""Above what the run loads with, below the 1.86 GiB of anonymous memory that its steps reach."""
KNOBS = (
    "--data", "demo", "--precision", "fp32", "--effective-batch", str(EFFECTIVE_BATCH), "--seq-len", "64",
    "--max-steps", str(STEPS), "--learning-rate", "0.001", "--batch-size", "8", "--checkpointing", "none",
    "--loss", "full", "--ram", "3G", "--no-rehearsal", "--checkpoint-steps", "2",
)  # fmt: skip


@pytest.fixture(scope="module")
def real_model():
    try:
        find_gguf()
    except LplanError as error:
        pytest.skip(str(error))
    return checkpoint("smollm2-135m-instruct")


@pytest.fixture(scope="module")
def _cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def train(lplan, real_model, real_tracing, _cache, tmp_path, monkeypatch):
    """`lplan fit-and-train` to its end: result and run folder. Graphs are traced once for all tests."""
    monkeypatch.setenv("LPLAN_CACHE", str(_cache))
    monkeypatch.setattr("lplan.trainer.fit.prepare_short", lambda *_: None)

    def run(name, *words, dropout=None):
        words = words or ("--model", real_model, *KNOBS, "--dropout", dropout, "--output", tmp_path / name)
        return lplan("fit-and-train", *words), tmp_path / name

    return run


@pytest.fixture(scope="module")
def _known():
    return {}


@pytest.fixture
def undisturbed(train, _known):
    """Losses by step and adapter of the run that nothing happens to."""

    def run(dropout):
        if dropout not in _known:
            result, folder = train(f"whole-{dropout}", dropout=dropout)
            assert result.status == 0, result.err
            _known[dropout] = losses(events_of(folder)), adapter_of(folder)
        return _known[dropout]

    return run


def events_of(folder):
    return list(read(folder / "events.jsonl"))


def adapter_of(folder):
    return load_file(folder / "adapter" / "adapter_model.safetensors")


def test_kill_9_and_resume_learns_the_same_to_the_bit(train, undisturbed, tmp_path):
    expected, learned = undisturbed(0.05)
    with somebody(kill_the_worker, tmp_path / "run" / "events.jsonl", after_step=3):
        killed, folder = train("run", dropout=0.05)
    assert killed.status == 1
    assert "killed from outside (SIGKILL)" in killed.err
    assert max(losses(events_of(folder))) < STEPS
    resumed, _ = train("run", "--resume", folder)
    assert resumed.status == 0, resumed.err
    assert losses(events_of(folder)) == expected
    adapter = adapter_of(folder)
    assert adapter.keys() == learned.keys()
    assert all(torch.equal(adapter[name], tensor) for name, tensor in learned.items())


@pytest.mark.skipif(writable_memory_group() is None, reason="no control group is writable here")
def test_the_kernel_kills_for_memory_and_a_smaller_micro_batch_learns_the_same(train, undisturbed, tmp_path):
    """Without dropout: what it draws for a sample depends on the samples beside it."""
    expected, learned = undisturbed(0)
    events_file = tmp_path / "run" / "events.jsonl"
    with somebody(lambda: lower_the_limit(LOWERED_BYTES), events_file, after_step=2):
        result, folder = train("run", dropout=0)
    assert result.status == 0, result.err
    events = events_of(folder)
    died = require_recovered(events, folder, expected, effective_batch=EFFECTIVE_BATCH)
    require_lowered(events, died, LOWERED_BYTES)
    adapter = adapter_of(folder)
    moved = {name: t for name, t in learned.items() if "lora_B" in name}
    apart = sum(float((adapter[name] - tensor).square().sum()) for name, tensor in moved.items())
    assert apart**0.5 < 1e-2 * sum(float(tensor.square().sum()) for tensor in moved.values()) ** 0.5
