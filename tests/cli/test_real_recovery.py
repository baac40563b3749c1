"""Workers that really die for memory, and runs that end all the same: the same losses as undisturbed."""

import json
from dataclasses import replace

import pytest
from command_line import CONFIG, make_model, write_csv
from recovered import MIB, losses, lower_the_limit, require_lowered, require_recovered, somebody

from lplan.planner.documents import read_plan, write_plan
from lplan.planner.events import read
from lplan.profiles.cgroup import writable_memory_group

STEPS = 4
VOCABULARY = 16_000
"""8 sequences of 256 tokens have logits of 125 MiB, several times over: most of what a micro batch needs."""
TEXT = " ".join(f"word{n}" for n in range(150))
ROWS = [(f"{n} {TEXT}"[:600], f"{TEXT} {n}"[-600:]) for n in range(40)]
KNOBS = (
    "--init", "random", "--precision", "fp32", "--dropout", "0", "--effective-batch", "8", "--seq-len", "256",
    "--threads", "1", "--max-steps", str(STEPS), "--learning-rate", "0.01",
)  # fmt: skip
LARGE = ("--batch-size", "8", "--checkpointing", "none", "--loss", "full")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A model folder and its data."""
    folder = tmp_path_factory.mktemp("prepared")
    (folder / "tiny").mkdir()
    make_model(folder / "tiny")
    wider = {**CONFIG, "vocab_size": VOCABULARY, "hidden_size": 128, "intermediate_size": 256}
    (folder / "tiny" / "config.json").write_text(json.dumps(wider))
    (folder / "tiny" / "model.safetensors").unlink()
    return folder / "tiny", write_csv(folder / "data.csv", ROWS)


@pytest.fixture(autouse=True)
def _quick(real_tracing, prepared, monkeypatch):
    """Graphs are traced once for all tests, and nothing is asked of the models at the end."""
    monkeypatch.setenv("LPLAN_CACHE", str(prepared[0].parent / "cache"))
    monkeypatch.setattr("lplan.trainer.fit.prepare_short", lambda *_: None)


@pytest.fixture
def train(lplan, prepared, tmp_path):
    """`lplan fit-and-train` to its end: status, losses by step, notes, attempts."""

    def run(name, *words):
        model, data = prepared
        sources = (
            () if "--plan" in words or "--resume" in words else ("--model", model, "--data", data, *KNOBS)
        )
        place = () if "--resume" in words else ("--output", tmp_path / name)
        result = lplan("fit-and-train", *sources, *words, *place)
        return result, list(read(tmp_path / name / "events.jsonl"))

    return run


@pytest.fixture(scope="module")
def _known():
    return {}


@pytest.fixture
def undisturbed(_known, train):
    """Losses by step of the run that nothing happens to."""
    if not _known:
        result, events = train("whole", *LARGE, "--ram", "3G", "--no-rehearsal", "--checkpoint-steps", "1")
        assert result.status == 0, result.err
        _known.update(losses(events))
    return _known


def promising_too_little(path, budget_bytes):
    """The plan of a file, changed by hand to fit a budget that its run does not."""
    plan = read_plan(path)
    estimate = plan.estimate
    share = 0.8 * budget_bytes / estimate.peak.required_bytes

    def shrunk(phase):
        components = {name: int(size * share) for name, size in phase.components.items()}
        peak = replace(
            phase.peak,
            low_bytes=int(phase.peak.low_bytes * share),
            expected_bytes=sum(components.values()),
            high_bytes=int(phase.peak.high_bytes * share) + 16,
        )
        return replace(phase, peak=peak, components=components)

    phases = tuple(map(shrunk, estimate.phases))
    budget = replace(estimate.budget, budget_bytes=budget_bytes)
    write_plan(replace(plan, estimate=replace(estimate, phases=phases, budget=budget)), path)


@pytest.mark.slow
def test_a_rehearsal_that_dies_for_memory_gives_way_to_a_smaller_plan(
    lplan, prepared, train, undisturbed, tmp_path
):
    model, data = prepared
    path = tmp_path / "plan.json"
    made = lplan("plan", "--model", model, "--data", data, *KNOBS, *LARGE, "--ram", "3G", "--output", path)
    assert made.status == 0, made.err
    promising_too_little(path, 620 * MIB)
    result, events = train("run", "--plan", path)
    assert result.status == 0, result.err
    died = require_recovered(events, tmp_path / "run", undisturbed, effective_batch=8)
    assert died["phase"] == "rehearsal"


@pytest.mark.skipif(writable_memory_group() is None, reason="no control group is writable here")
def test_a_limit_that_is_lowered_while_running(train, undisturbed, tmp_path):
    events_file = tmp_path / "run" / "events.jsonl"
    with somebody(lambda: lower_the_limit(520 * MIB), events_file, after_step=2):
        result, events = train("run", *LARGE, "--ram", "3G", "--no-rehearsal", "--checkpoint-steps", "1")
    assert result.status == 0, result.err
    died = require_recovered(events, tmp_path / "run", undisturbed, effective_batch=8)
    assert died["step"] >= 2
    require_lowered(events, died, 520 * MIB)
