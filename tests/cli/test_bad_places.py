"""Places that cannot be written or are taken, checkpoints and plan files that are broken: refused before any work."""

import json
import os
from pathlib import Path

import pytest

from lplan.planner import rates, tracer
from lplan.planner.versions import stack_versions
from lplan.trainer import prepare


def train(model, data, *words):
    return ("fit-and-train", "--model", model, "--data", data, "--ram", "2G", *words)


@pytest.fixture
def never(monkeypatch):
    """Nothing may be read, traced or measured."""

    def work(*_, **__):
        pytest.fail("work was done before the refusal")

    monkeypatch.setattr(prepare, "read_examples", work)
    monkeypatch.setattr(tracer, "_trace", work)
    monkeypatch.setattr(rates, "_measure", work)


@pytest.fixture
def plan_file(lplan, model, data, tmp_path):
    path = tmp_path / "plan.json"
    assert lplan("plan", "--model", model, "--data", data, "--ram", "2G", "--output", path).status == 0
    return path


@pytest.mark.usefixtures("never")
def test_a_run_folder_that_is_not_empty(lplan, model, data, tmp_path):
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "thesis.tex").write_text("years of work")
    message, hint = lplan(*train(model, data, "--output", taken)).refused(2)
    assert message == f"the run folder {taken} is not empty"
    assert "--output" in hint


@pytest.mark.usefixtures("never")
def test_a_run_folder_that_is_a_file_or_below_one(lplan, model, data, tmp_path):
    (tmp_path / "file").write_text("")
    assert (
        "is a file, not a folder" in lplan(*train(model, data, "--output", tmp_path / "file")).refused(2)[0]
    )
    message, _ = lplan(*train(model, data, "--output", tmp_path / "file" / "run")).refused(2)
    assert "cannot write the run folder" in message


@pytest.mark.usefixtures("never")
def test_a_run_folder_that_cannot_be_made(lplan, model, data, tmp_path, monkeypatch):
    """As on a read-only disk; permissions do not stop root."""
    mkdir = Path.mkdir

    def read_only(self, *words, **options):
        if "disk" in self.parts:
            raise OSError(30, "Read-only file system")
        mkdir(self, *words, **options)

    monkeypatch.setattr(Path, "mkdir", read_only)
    message, hint = lplan(*train(model, data, "--output", tmp_path / "disk" / "run")).refused(2)
    assert message.endswith("Read-only file system")
    assert "--output" in hint


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
@pytest.mark.usefixtures("never")
def test_a_run_folder_without_permission(lplan, model, data, tmp_path):
    (tmp_path / "locked").mkdir(mode=0o500)
    message, _ = lplan(*train(model, data, "--output", tmp_path / "locked" / "run")).refused(2)
    assert "Permission denied" in message


@pytest.mark.parametrize(
    ("words", "status"),
    [(("--ram", "200M"), 3), (("--model", "tinylama"), 2), (("--data", "nowhere.csv"), 2)],
)
def test_a_refusal_leaves_no_run_folder(lplan, model, data, tmp_path, words, status):
    output = tmp_path / "deep" / "run"
    lplan(*train(model, data, "--output", output), *words).refused(status)
    lplan(*train(model, data), *words).refused(status)
    assert not output.parent.exists()


def test_an_empty_folder_of_the_users_stays(lplan, model, tmp_path):
    mine = tmp_path / "mine"
    mine.mkdir()
    lplan(*train(model, "nowhere.csv", "--output", mine)).refused(2)
    assert mine.is_dir()


def test_nothing_fits_and_nothing_is_left(lplan, model, data, tmp_path):
    result = lplan(*train(model, data, "--ram", "420M", "--output", tmp_path / "run"))
    assert (result.status, result.out) == (3, "")
    assert result.after == result.before
    assert "no plan fits 0.41 GiB" in result.complaint()[0]


@pytest.mark.usefixtures("never")
@pytest.mark.parametrize(
    ("place", "error"),
    [(".", "is a folder"), ("questions.csv", "is no plan"), ("none/plan.json", "No such file")],
)
def test_a_plan_is_not_written_just_anywhere(lplan, model, data, tmp_path, place, error):
    words = ("plan", "--model", model, "--data", data, "--ram", "2G", "--output", tmp_path / place)
    message, hint = lplan(*words).refused(2)
    assert error in message
    assert "--output" in hint


def test_a_plan_that_does_not_fit_is_not_written(lplan, model, data, tmp_path):
    result = lplan(
        "plan",
        "--model",
        model,
        "--data",
        data,
        "--ram",
        "420M",
        "--output",
        tmp_path / "plan.json",
        "--json",
    )
    assert (result.status, result.document["estimate"]["fits"]) == (3, False)
    assert result.after == result.before


@pytest.mark.parametrize("command", ["estimate", "plan", "fit-and-train"])
@pytest.mark.parametrize(
    ("damage", "error"),
    [
        (lambda content: content[:-1000], "bytes of data"),
        (lambda content: content[:20], "cut short"),
        (lambda _: b"", "cut short"),
        (lambda _: b"<!DOCTYPE html>" * 100, "is not a sound safetensors file"),
    ],
)  # fmt: skip
def test_a_corrupt_checkpoint(lplan, model, data, traced, command, damage, error):
    file = model / "model.safetensors"
    file.write_bytes(damage(file.read_bytes()))
    words = (command, "--model", model, "--ram", "2G", *(() if command == "estimate" else ("--data", data)))
    message, hint = lplan(*words).refused(1)
    assert error in message
    assert "download or save it again" in hint
    assert traced == []


def test_a_checkpoint_that_is_not_all_there(lplan, model):
    (model / "model.safetensors").rename(model / "model-00001-of-00002.safetensors")
    shards = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    (model / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}))
    message, _ = lplan("estimate", "--model", model, "--ram", "2G").refused(1)
    assert "model-00002-of-00002.safetensors is missing" in message


@pytest.mark.parametrize(("name", "found"), [("pytorch_model.bin", "pickle"), (None, "none")])
def test_training_wants_safetensors(lplan, model, data, traced, name, found):
    file = model / "model.safetensors"
    file.rename(model / name) if name else file.unlink()
    message, hint = lplan(*train(model, data)).refused(1)
    assert message == f"tiny has no safetensors weights (found: {found})"
    assert "--init random" in hint
    assert traced == []


@pytest.mark.usefixtures("never")
@pytest.mark.parametrize(
    ("text", "status", "error"),
    [
        (None, 2, "No such file"),
        ("", 1, "is not a plan file"),
        ('{"schema": "lplan.plan/1", "rec', 1, "is not a plan file"),
        ('{"schema": "lplan.plan/1"}', 1, "is damaged"),
        ('{"schema": "lplan.run/1"}', 1, "its schema is 'lplan.run/1'"),
    ],
)
def test_a_plan_file_that_is_none(lplan, tmp_path, text, status, error):
    path = tmp_path / "plan.json"
    if text is not None:
        path.write_text(text)
    message, hint = lplan("fit-and-train", "--plan", path).refused(status)
    assert error in message
    assert "lplan plan --output" in hint


def test_an_edited_plan_file(lplan, plan_file):
    plan_file.write_text(plan_file.read_text().replace('"rank": 8', '"rank": 9'))
    message, _ = lplan("fit-and-train", "--plan", plan_file).refused(1)
    assert message.endswith("is damaged, or was changed after it was written")


def test_a_plan_whose_data_has_changed(lplan, plan_file, data):
    data.write_text(data.read_text().replace("please", "quickly"))
    message, hint = lplan("fit-and-train", "--plan", plan_file).refused(1)
    assert message == f"since the plan was made there changed: the data {data}"
    assert hint == "plan again"


def test_a_plan_whose_model_has_changed(lplan, plan_file, model):
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**config, "rope_theta": 5e5}))
    message, _ = lplan("fit-and-train", "--plan", plan_file).refused(1)
    assert message.endswith("there changed: the model tiny")


def test_a_plan_whose_model_or_data_is_gone(lplan, plan_file, data, model):
    data.rename(data.with_name("moved.csv"))
    assert "there is no file or folder" in lplan("fit-and-train", "--plan", plan_file).refused(2)[0]
    data.with_name("moved.csv").rename(data)
    model.rename(model.with_name("moved"))
    message, _ = lplan("fit-and-train", "--plan", plan_file).refused(1)
    assert str(model) in message


def test_a_plan_made_with_other_versions(lplan, plan_file, monkeypatch):
    now = {**stack_versions(), "torch": "99.0"}
    monkeypatch.setattr("lplan.planner.replay.stack_versions", lambda: now)
    message, _ = lplan("fit-and-train", "--plan", plan_file).refused(1)
    assert f"torch ({stack_versions()['torch']} then, 99.0 now)" in message


def test_a_plan_without_data_promises_nothing(lplan, model, tmp_path):
    path = tmp_path / "plan.json"
    assert lplan("plan", "--model", model, "--ram", "2G", "--output", path).status == 0
    message, hint = lplan("fit-and-train", "--plan", path, "--data", "demo").refused(2)
    assert "was made without data" in message
    assert "--data" in hint


@pytest.mark.parametrize(
    "words",
    [("--rank", "4"), ("--ram", "8G"), ("--max-steps", "3"), ("--task", "banking77"), ("--offload", "none")],
)
def test_a_plan_is_run_as_it_is(lplan, plan_file, words):
    message, hint = lplan("fit-and-train", "--plan", plan_file, *words).refused(2)
    assert message == f"{words[0]} does not go with --plan"
    assert "plan again" in hint


def test_a_plan_file_cannot_allow_a_models_own_code(lplan, model, data, tmp_path, traced):
    config = json.loads((model / "config.json").read_text())
    config |= {
        "model_type": "own",
        "auto_map": {"AutoConfig": "own.Config", "AutoModelForCausalLM": "own.Model"},
    }
    (model / "config.json").write_text(json.dumps(config))
    path = tmp_path / "plan.json"
    words = ("--model", model, "--data", data, "--ram", "2G", "--output", path)
    assert lplan("plan", *words, "--trust-remote-code").status == 0
    message, hint = lplan("fit-and-train", "--plan", path).refused(2)
    assert "own Python code" in message
    assert "--trust-remote-code" in hint
