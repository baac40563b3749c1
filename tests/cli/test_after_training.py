"""A real run of a tiny model, and everything that is done with it afterwards, as a user does it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command_line import CONFIG, CommandLine, files_below

from lplan.planner.events import Answer, Evaluation, read

TOKEN = "hf_" + "AbCdEfGhIjKlMnOpQrStUvWxYz01234567"
TEMPLATE = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


def test_a_run_is_evaluated_within_its_limit_asked_merged_and_reported(
    lplan: CommandLine, model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch = pytest.importorskip("torch")
    from transformers import AutoModelForCausalLM, LlamaConfig

    monkeypatch.setenv("HF_TOKEN", TOKEN)
    (model / "chat_template.jinja").write_text(TEMPLATE)
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(LlamaConfig(**CONFIG), dtype=torch.float32).save_pretrained(model)
    before, run = files_below(model), tmp_path / "run"
    trained = lplan(
        "fit-and-train", "--model", model, "--data", data, "--ram", "2G", "--epochs", "2", "--effective-batch", "8",
        "--threads", "1", "--no-rehearsal", "--output", run, "--quiet",
    )  # fmt: skip
    assert trained.status == 0, trained.err
    events = list(read(run / "events.jsonl"))
    answers, losses = ([e for e in events if isinstance(e, kind)] for kind in (Answer, Evaluation))
    assert len({answer.step for answer in answers}) == len({loss.step for loss in losses}) == 2
    assert all(answer.request.startswith("What is") for answer in answers)
    assert all(answer.wanted.startswith("It is") for answer in answers)

    within = lplan("evaluate", run, "--samples", "3", "--json")
    assert within.status == 0, within.err
    assert within.document["loss"]["samples"] == 3
    assert within.document == json.loads((run / "evaluation.json").read_text())
    assert "within 2.00 GiB" in within.err
    assert "evaluation reached" in within.err
    beyond = lplan("evaluate", run, "--ram", "120M")
    assert beyond.status == 3
    error, hint = beyond.complaint()
    assert "does not fit 0.12 GiB" in error
    assert "--ram" in hint
    assert within.document == json.loads((run / "evaluation.json").read_text())

    asked = lplan("generate", run, "What is 3 plus 3, please?", "--base", "--max-tokens", "4", "--json")
    assert [answer["by"] for answer in asked.document["answers"]] == ["base", "run"]
    merged = lplan("merge", run, "--output", tmp_path / "merged", "--json")
    assert merged.document["agreement"]["steps"] <= 2
    assert lplan("report", run).status == 0
    page = (run / "report.html").read_text("utf-8")
    assert "Answers, epoch by epoch" in page
    assert "Sample answers" in page

    assert files_below(model) == before
    written = b"".join(content or b"" for content in files_below(run).values())
    assert TOKEN.encode() not in written
    assert TOKEN not in "".join(
        result.out + result.err for result in (trained, within, beyond, asked, merged)
    )
