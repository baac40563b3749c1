"""A worker that dies for memory is started again, smaller; one that dies of something else is not."""

import json

import pytest
from supervision import fake

from lplan.planner.events import Note, Start, read
from lplan.trainer import fit

DIES = ("phase=import", "phase=steady step", "step=1", "say=MemoryError", "exit=1")
ENDS = ("phase=steady step", "step=2", "step=3")


@pytest.fixture
def attempts(monkeypatch):
    """The jobs that workers were started with; each does what its turn says."""
    seen, turns = [], {"verbs": [DIES, ENDS]}
    start = fit.supervise

    def instead(argv, *, recover, folder, **options):
        class Turns(list):
            def __iter__(self):
                seen.append(json.loads((folder.path / "job.json").read_text()))
                return iter(fake(*turns["verbs"][min(len(seen), len(turns["verbs"])) - 1]))

        return start(Turns(), folder=folder, recover=recover, **{**options, "environment": {}})

    monkeypatch.setattr(fit, "supervise", instead)
    turns["seen"] = seen
    return turns


def run(lplan, model, data, tmp_path, *words):
    return lplan(
        "fit-and-train", "--model", model, "--data", data, "--ram", "2G", "--max-steps", "3", "--batch-size", "4",
        "--effective-batch", "8", "--output", tmp_path / "run", *words,
    )  # fmt: skip


def test_it_goes_on_smaller_with_the_same_samples(lplan, model, data, tmp_path, attempts):
    result = run(lplan, model, data, tmp_path)
    assert result.status == 0, result.err
    first, second = attempts["seen"]
    assert first["recipe"] != second["recipe"]
    sizes = [job["recipe"]["batch_size"] * job["recipe"]["accumulation"] for job in (first, second)]
    assert sizes == [8, 8]
    assert second["order_batch"] == first["recipe"]["batch_size"] == 4
    history = json.loads((tmp_path / "run" / "attempts.json").read_text())["attempts"]
    assert [attempt["verdict"] for attempt in history] == ["out-of-memory", "done"]
    assert (history[0]["phase"], history[0]["step"]) == ("steady step", 1)
    events = list(read(tmp_path / "run" / "events.jsonl"))
    assert any("goes on from the last checkpoint" in e.text for e in events if isinstance(e, Note))
    assert len([e for e in events if isinstance(e, Start)]) == 2


def test_never_the_same_plan_twice_and_not_for_ever(lplan, model, data, tmp_path, attempts):
    attempts["verbs"] = [DIES]
    result = run(lplan, model, data, tmp_path, "--tries", "2")
    assert result.status == 3
    recipes = [json.dumps(job["recipe"], sort_keys=True) for job in attempts["seen"]]
    assert len(recipes) == len(set(recipes)) == 2


def test_other_failures_are_not_tried_again(lplan, model, data, tmp_path, attempts):
    attempts["verbs"] = [("phase=steady step", "fail=no such layer")]
    assert run(lplan, model, data, tmp_path).status == 1
    assert len(attempts["seen"]) == 1
