"""An evaluation as people read it, and as a run folder keeps it."""

from dataclasses import replace

import pytest

from lplan.planner.evaluation import (
    Evaluated,
    Latency,
    Loss,
    SampleAnswer,
    Score,
    Share,
    read_evaluation,
    write_evaluation,
)
from lplan.profiles.errors import LplanError, UsageError
from lplan.report.evaluation import evaluation_view

FOUND = Evaluated(
    model="HuggingFaceTB/SmolLM2-135M-Instruct",
    task="banking77-intents",
    labels=77,
    loss=Loss(samples=300, before=4.61, after=0.21, difference=(-4.6, -4.2)),
    scored=Score(
        before=Share(right=51, of=300, low=0.132, high=0.217),
        after=Share(right=258, of=300, low=0.816, high=0.895),
        difference=(0.633, 0.743),
        p_value=1e-50,
    ),
    generated=None,
    knowledge=Score(
        before=Share(right=44, of=64, low=0.566, high=0.788),
        after=Share(right=42, of=64, low=0.534, high=0.761),
        difference=(-0.094, 0.031),
        p_value=0.625,
    ),
    max_forgetting=0.05,
    latency=Latency(prompts=3, first_token_s=0.055, tokens_per_s=14.2),
    samples=(
        SampleAnswer(
            request="How do I locate my card?",
            wanted="card arrival",
            before="You can\nfind it.",
            after="card arrival",
        ),
    ),
    seconds=241.3,
)


@pytest.mark.parametrize("width", [80, 120])
def test_golden_evaluation(golden, render, width):
    golden(f"evaluation_{width}", render(evaluation_view(FOUND), width=width))


def test_forgetting_beyond_what_is_accepted_is_a_warning(render):
    assert "points of general knowledge are gone" not in render(evaluation_view(FOUND))
    strict = render(evaluation_view(replace(FOUND, max_forgetting=0.01)), width=200)
    assert "3.1 points of general knowledge are gone, 1.0 are accepted" in strict  # 2 of 64 questions


def test_an_evaluation_without_a_base_has_no_before(render):
    alone = replace(FOUND, scored=Score(after=FOUND.scored.after), knowledge=None, loss=None)
    assert "86.0 % (82–90)" in render(evaluation_view(alone))


def test_an_evaluation_survives_its_file(tmp_path):
    write_evaluation(FOUND, tmp_path)
    assert read_evaluation(tmp_path) == FOUND
    for text in ("{", '{"schema": "x"}'):
        (tmp_path / "evaluation.json").write_text(text)
        with pytest.raises(LplanError, match="damaged"):
            read_evaluation(tmp_path)


def test_a_folder_without_an_evaluation_says_how_to_make_one(tmp_path):
    with pytest.raises(UsageError) as caught:
        read_evaluation(tmp_path)
    assert "lplan evaluate" in caught.value.hint
