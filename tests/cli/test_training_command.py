"""`lplan fit-and-train` with a worker that only pretends: what is said, what is left, how it ends."""

import json

import pytest
from command_line import CONFIG
from supervision import fake

from lplan.trainer import fit

DONE = (
    "phase=import",
    "phase=load",
    "end_phase",
    "phase=steady step",
    "step=1",
    "step=3",
    "phase=save",
    "end_phase",
)


@pytest.fixture
def worker(monkeypatch):
    """The verbs of the worker that runs instead of the real one, and what it was started with."""
    started = {"verbs": DONE}
    supervise = fit.supervise

    def instead(argv, **options):
        started.update(argv=argv, **options)
        return supervise(fake(*started["verbs"]), **{**options, "environment": {}})

    monkeypatch.setattr(fit, "supervise", instead)
    return started


@pytest.fixture
def train(lplan, model, data, tmp_path):
    def run(*words):
        return lplan(
            "fit-and-train", "--model", model, "--data", data, "--ram", "2G", "--max-steps", "3",
            "--output", tmp_path / "run", *words,
        )  # fmt: skip

    return run


def test_a_run_that_ends_well(train, worker, tmp_path):
    result = train()
    assert result.status == 0, result.err
    assert "micro batch" in result.err  # the plan, and the run's course, are talk
    assert "predicted against measured" in result.out
    assert result.out.splitlines()[-1] == f"everything is in {tmp_path / 'run'}"
    assert {"plan.json", "events.jsonl", "worker.log", "job.json"} <= {
        path.name for path in (tmp_path / "run").iterdir()
    }
    assert worker["argv"][-1] == str(tmp_path / "run")
    assert worker["budget_bytes"] == 2 * 2**30


def test_quiet_says_only_how_it_ended(train, worker):
    result = train("--quiet")
    assert (result.status, result.out) == (0, "")
    assert len(result.err.splitlines()) == 1
    assert "3 of 3 steps" in result.err


def test_the_document_of_a_run(train, worker, tmp_path):
    result = train("--json")
    document = result.document
    assert (result.status, document["schema"]) == (0, "lplan.run/1")
    assert document["plan"]["schema"] == "lplan.plan/1"
    assert document["outcome"]["verdict"] == "done"
    assert [phase["name"] for phase in document["measured"]] == ["import", "load", "steady step", "save"]
    assert document["measured"][0].keys() >= {"name", "rss_bytes", "anonymous_bytes", "file_bytes"}
    assert document["folder"] == str(tmp_path / "run")


@pytest.mark.parametrize("mode", [(), ("--quiet",), ("--json",)])
@pytest.mark.parametrize(
    ("verbs", "status", "error", "hint"),
    [
        (
            ("phase=load", "tell=the weights are broken", "exit=2"),
            2,
            "the weights are broken",
            "turn it off and on",
        ),
        (("phase=steady step", "fail=no such layer"), 1, "ValueError: no such layer", "worker.log"),
        (("phase=load", "exit=7"), 1, "exit status 7", "worker.log"),
        (("phase=first step", "say=MemoryError", "exit=1"), 3, "MemoryError", "--batch-size"),
    ],
)
def test_a_run_that_fails_is_told_once(train, worker, mode, verbs, status, error, hint):
    worker["verbs"] = verbs
    result = train(*mode)
    assert result.status == status
    message, advice = result.complaint()
    assert error in message
    assert hint in advice
    if mode == ("--json",):
        assert result.document["outcome"]["exit_code"] == status
    if mode == ("--quiet",):
        assert result.out == ""


def test_a_run_that_is_interrupted_has_status_one(train, worker):
    worker["verbs"] = ("phase=steady step", "step=1", "signal=SIGTERM")
    result = train()
    assert result.status == 1
    assert result.complaint()[1]


def test_the_default_folder_is_named_after_the_model(lplan, model, data, worker, tmp_path):
    words = ("fit-and-train", "--model", model, "--data", data, "--ram", "2G", "--max-steps", "3", "--json")
    first, second = (lplan(*words).document["folder"] for _ in range(2))
    assert first.startswith("runs/")
    assert first.endswith("-tiny")
    assert second.startswith("runs/")
    assert first != second


def test_a_plan_is_replayed_as_it_was_made(lplan, model, data, worker, tmp_path):
    path = tmp_path / "plan.json"
    words = ("plan", "--model", model, "--data", data, "--ram", "2G", "--seq-len", "30", "--max-steps", "3")
    planned = lplan(*words, "--output", path, "--json").document
    assert "are cut, as asked" in json.dumps(planned["decisions"])
    result = lplan("fit-and-train", "--plan", path, "--output", tmp_path / "run", "--json")
    assert result.status == 0, result.err
    assert result.document["plan"] == planned
    offsets = (tmp_path / "run" / "train.offsets.bin").read_bytes()
    assert len(offsets) == 8 * (planned["data"]["samples"] + 1)


def test_a_plan_follows_model_and_data_that_have_moved(lplan, model, data, worker, tmp_path):
    path = tmp_path / "plan.json"
    assert lplan("plan", "--model", model, "--data", data, "--ram", "2G", "--output", path).status == 0
    data.rename(tmp_path / "moved.csv")
    model.rename(tmp_path / "moved")
    words = ("--model", tmp_path / "moved", "--data", tmp_path / "moved.csv", "--output", tmp_path / "run")
    result = lplan("fit-and-train", "--plan", path, *words)
    assert result.status == 0, result.err
    assert json.loads((tmp_path / "run" / "job.json").read_text())["model"] == str(tmp_path / "moved")


def test_a_worker_that_is_asked_to_leave_gets_time_for_its_step(train, worker):
    plan = train("--json").document["plan"]
    assert worker["grace_s"] > 120 + plan["time"]["step_s"]


def test_random_weights_need_no_checkpoint(train, worker, model):
    (model / "model.safetensors").unlink()
    assert train("--init", "random").status == 0


def test_an_adapter_with_dora_and_copies_is_reloaded_by_peft(train, worker, model, tmp_path, monkeypatch):
    """The worker that is started, run in this process: what PEFT makes of its files gives the same logits."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, LlamaConfig

    from lplan.trainer import worker as real
    from lplan.trainer.channel import Channel

    torch.manual_seed(0)
    config = LlamaConfig(**CONFIG)
    AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).save_pretrained(model)
    copies = ("--modules-to-save", "embed_tokens,lm_head")
    knobs = ("--dora", "on", *copies, "--rank-pattern", "q_proj=4", "--input-casting", "on")
    assert train(*knobs, "--learning-rate", "0.01", "--precision", "bf16").status == 0
    run, ids, logits = tmp_path / "run", torch.arange(3, 40)[None], {}
    save = real.save

    def keep(trained, folder):
        with torch.no_grad():
            logits["trained"] = trained.eval()(input_ids=ids).logits
        save(trained, folder)

    monkeypatch.setattr(real, "save", keep)
    real.run(run, Channel(None, 0.0), [])
    base = AutoModelForCausalLM.from_pretrained(model, dtype=torch.bfloat16)
    with torch.no_grad():
        logits["base"] = base(input_ids=ids).logits
        logits["again"] = PeftModel.from_pretrained(base, run / "adapter").eval()(input_ids=ids).logits
    assert torch.equal(logits["again"], logits["trained"])
    assert not torch.equal(logits["base"], logits["trained"])
