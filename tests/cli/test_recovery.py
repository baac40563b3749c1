"""A worker that dies for memory is started again, smaller; one that dies of something else is not."""

import json
from dataclasses import replace

import pytest
from supervision import fake

from lplan.planner.documents import read_plan, write_plan
from lplan.planner.events import Note, Start, read
from lplan.trainer import fit

DIES = ("phase=import", "phase=steady step", "step=1", "say=MemoryError", "exit=1")
ENDS = ("phase=steady step", "step=2", "step=3", "sleep=0.3")
"""Long enough in the phase for a sample of it."""


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
    sought, goes_on = [e.text for e in events if isinstance(e, Note)][-2:]
    assert sought == "out of memory: a plan that needs less is sought"
    assert "goes on from the last checkpoint" in goes_on
    assert len([e for e in events if isinstance(e, Start)]) == 2


def test_never_the_same_plan_twice_and_not_for_ever(lplan, model, data, tmp_path, attempts):
    attempts["verbs"] = [DIES]
    result = run(lplan, model, data, tmp_path, "--tries", "2")
    assert result.status == 3
    recipes = [json.dumps(job["recipe"], sort_keys=True) for job in attempts["seen"]]
    assert len(recipes) == len(set(recipes)) == 2


def test_what_failed_before_a_resume_does_not_come_back(lplan, model, data, tmp_path, attempts):
    assert run(lplan, model, data, tmp_path, "--tries", "1").status == 3
    result = lplan("fit-and-train", "--resume", tmp_path / "run", "--tries", "1")
    assert result.status == 0, result.err
    recipes = [json.dumps(job["recipe"], sort_keys=True) for job in attempts["seen"]]
    assert len(recipes) == len(set(recipes)) == 2
    history = json.loads((tmp_path / "run" / "attempts.json").read_text())["attempts"]
    assert [attempt["verdict"] for attempt in history] == ["out-of-memory", "done"]


def stopped_beyond_its_budget(lplan, model, data, tmp_path, attempts):
    """A run that failed once, and whose plan is a MiB beyond its budget; the plan's file."""
    attempts["verbs"] = [("phase=steady step", "step=1", "exit=1"), ENDS]
    assert run(lplan, model, data, tmp_path).status == 1
    path = tmp_path / "run" / "plan.json"
    plan = read_plan(path)
    lowered = replace(plan.estimate.budget, budget_bytes=plan.estimate.peak.required_bytes - 2**20)
    write_plan(replace(plan, estimate=replace(plan.estimate, budget=lowered)), path)
    return path


def test_a_run_whose_limit_was_lowered_is_resumed_within_more(lplan, model, data, tmp_path, attempts):
    """Its last plan is beyond its last budget, for nothing needs less: a plain resume takes it, --ram lifts it."""
    path = stopped_beyond_its_budget(lplan, model, data, tmp_path, attempts)
    status, hint = lplan("fit-and-train", "--resume", tmp_path / "run", "--ram", "100M").refused(3)
    assert "does not fit its own budget of 100.0 MiB" in status
    assert "--ram" in hint
    result = lplan("fit-and-train", "--resume", tmp_path / "run", "--ram", "3G")
    assert result.status == 0, result.err
    starts = [e for e in read(tmp_path / "run" / "events.jsonl") if isinstance(e, Start)]
    assert [start.budget_bytes for start in starts] == [2 * 2**30, 3 * 2**30]
    assert read_plan(path).estimate.budget.budget_bytes == 3 * 2**30


def test_a_tight_plan_is_resumed_as_it_is(lplan, model, data, tmp_path, attempts):
    stopped_beyond_its_budget(lplan, model, data, tmp_path, attempts)
    result = lplan("fit-and-train", "--resume", tmp_path / "run")
    assert result.status == 0, result.err


def test_when_no_plan_needs_less_a_resume_says_so(lplan, model, data, tmp_path, attempts):
    attempts["verbs"] = [DIES]
    assert run(lplan, model, data, tmp_path, "--tries", "99").status == 3
    started = len(attempts["seen"])
    result = lplan("fit-and-train", "--resume", tmp_path / "run")
    assert result.status == 3
    message, hint = result.complaint()
    assert message == "this run died for memory, and no plan needs less"
    assert "--ram" in hint
    assert len(attempts["seen"]) == started


def test_the_end_is_held_against_the_last_plan_and_its_time(lplan, model, data, tmp_path, attempts):
    document = run(lplan, model, data, tmp_path, "--json").document
    assert document["plan"]["recipe"] == attempts["seen"][-1]["recipe"] != attempts["seen"][0]["recipe"]
    assert document["plan"]["time"]["step_s"] > 0
    assert [phase["name"] for phase in document["measured"]] == ["steady step"]


def test_a_run_that_diverged_is_continued_at_a_lower_rate(lplan, model, data, tmp_path, attempts):
    attempts["verbs"] = [("phase=steady step", "step=1", "fail=the loss is not a number"), ENDS]
    assert run(lplan, model, data, tmp_path, "--learning-rate", "0.5").status == 1
    result = lplan("fit-and-train", "--resume", tmp_path / "run", "--learning-rate", "0.05")
    assert result.status == 0, result.err
    assert [job["schedule"]["learning_rate"] for job in attempts["seen"]] == [0.5, 0.05]
    assert json.loads((tmp_path / "run" / "plan.json").read_text())["schedule"]["learning_rate"] == 0.05


REHEARSED = ("phase=import", "rehearse", *ENDS)
LEAN = (
    "--ram",
    "2G",
    "--data",
    "demo",
    "--task",
    "banking77-intents",
    "--max-steps",
    "3",
    "--effective-batch",
    "8",
)


def grown(lplan, model, tmp_path, *words):
    return lplan("fit-and-train", "--model", model, *LEAN, "--output", tmp_path / "run", *words)


def test_room_that_a_rehearsal_left_is_used_when_asked(lplan, model, tmp_path, attempts, monkeypatch):
    """The plan is lean as its maker did not trust the machine; the made-up worker needs next to nothing."""
    from lplan.commands import shared
    from lplan.planner import corrected

    make = shared.planned

    def lean(*asked, **options):
        task, plan, prepared = make(*asked, **options)
        recipe = corrected.replace(
            plan.recipe, batch_size=1, accumulation=8, checkpointing="full", loss="chunked"
        )
        priced = corrected._priced(task, [recipe])[recipe]
        return (
            task,
            corrected.replace(plan, recipe=recipe, estimate=priced.estimate, time=priced.time),
            prepared,
        )

    monkeypatch.setattr("lplan.commands.fit_and_train.planned", lean)
    attempts["verbs"] = [REHEARSED]
    result = grown(lplan, model, tmp_path, "--grow")
    assert result.status == 0, result.err
    first, second = attempts["seen"]
    assert second["recipe"] != first["recipe"]
    assert second["recipe"]["batch_size"] * second["recipe"]["accumulation"] == 8
    (said,) = [line for line in result.err.splitlines() if "starts again with" in line]
    assert "the rehearsal left" in said
    assert "s a step instead of" in said
    verdicts = [
        a["verdict"] for a in json.loads((tmp_path / "run" / "attempts.json").read_text())["attempts"]
    ]
    assert verdicts == ["rehearsed", "done"]
    attempts["seen"].clear()
    plain = lplan("fit-and-train", "--model", model, *LEAN, "--output", tmp_path / "plain")
    assert plain.status == 0, plain.err
    assert len(attempts["seen"]) == 1


@pytest.mark.parametrize("words", [("--grow", "--no-rehearsal"), ("--grow", "--plan", "x.json")])
def test_growing_needs_a_plan_of_its_own_and_its_rehearsal(lplan, model, data, words):
    sources = () if "--plan" in words else ("--model", model, "--data", data)
    message, _ = lplan("fit-and-train", *sources, *words).refused(2)
    assert "--grow" in message


def test_other_failures_are_not_tried_again(lplan, model, data, tmp_path, attempts):
    attempts["verbs"] = [("phase=steady step", "fail=no such layer")]
    assert run(lplan, model, data, tmp_path).status == 1
    assert len(attempts["seen"]) == 1
