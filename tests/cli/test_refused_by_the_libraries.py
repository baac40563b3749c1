"""What only the real libraries know: one tracing process each."""

import json

import pytest
from command_line import CONFIG

pytestmark = pytest.mark.usefixtures("real_tracing")


def test_a_rank_above_the_width(lplan, model):
    message, hint = lplan("estimate", "--model", model, "--ram", "2G", "--rank", "33").refused(2)
    assert message.startswith("rank 33 exceeds the width 32 of ")
    assert hint == "at most 32"


def test_target_modules_that_match_nothing(lplan, model, data):
    words = ("plan", "--model", model, "--data", data, "--ram", "2G", "--target-modules", "q_porj,vproj")
    message, hint = lplan(*words).refused(2)
    assert message == "target modules q_porj, vproj match nothing trainable"
    assert "self_attn.q_proj" in hint


def test_a_configuration_that_builds_no_model(lplan, model):
    """32 wide, in 5 heads."""
    (model / "config.json").write_text(json.dumps({**CONFIG, "num_attention_heads": 5}))
    message, hint = lplan("estimate", "--model", model, "--ram", "2G").refused(1)
    assert "config.json" in message
    assert hint == "check the file's fields"
