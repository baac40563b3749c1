"""What a user writes to choose modules, parameters, tokens and patterns."""

import pytest
from made_up import HARDWARE

from lplan.planner.recipe import ALL_LINEAR, ATTENTION, Recipe
from lplan.planner.request import make_request
from lplan.planner.selectors import require_tokens, targets, trained_besides
from lplan.profiles.errors import UsageError


@pytest.mark.parametrize(
    ("knob", "text", "value"),
    [
        ("target_modules", "attention", ATTENTION),
        ("target_modules", "all-linear", ALL_LINEAR),
        ("target_modules", " q_proj , v_proj", ("q_proj", "v_proj")),
        ("target_modules", r"re:.*layers\.(0|1)\..*,?_proj", (r"re:.*layers\.(0|1)\..*,?_proj",)),
        ("modules_to_save", "embed_tokens,lm_head", ("embed_tokens", "lm_head")),
        ("trainable_tokens", "5,9,100-103", (5, 9, 100, 101, 102, 103)),
        (
            "rank_pattern",
            ("q_proj=4", r"layers\.0\.=.*v_proj=2"),
            (("q_proj", 4), (r"layers\.0\.=.*v_proj", 2)),
        ),
        ("alpha_pattern", ("q_proj=4", "q_proj=8"), (("q_proj", 8),)),
        ("dora", "on", True),
        ("lora_bias", "off", False),
        ("bias", "lora-only", "lora-only"),
    ],
)
def test_flags(knob, text, value):
    request = make_request({knob: text}, HARDWARE)
    assert getattr(request.recipe, knob) == value
    assert request.given == {knob}


def test_parameters_alone_and_without_the_usual_dropout():
    asked = {"target_modules": "none", "target_parameters": "experts.down_proj"}
    request = make_request(asked, HARDWARE)
    assert (request.recipe.target_modules, request.recipe.target_parameters) == ((), ("experts.down_proj",))
    assert request.recipe.dropout == 0
    assert "dropout" not in request.given
    with pytest.raises(UsageError, match="lora_dropout"):
        make_request({**asked, "dropout": 0.1}, HARDWARE)


def test_patterns_that_were_not_given_are_not_asked_for():
    assert make_request({"rank_pattern": (), "alpha_pattern": ()}, HARDWARE).given == frozenset()


@pytest.mark.parametrize(
    ("knob", "text", "error"),
    [
        ("target_modules", " , ", "--target-modules names nothing"),
        ("modules_to_save", ",", "--modules-to-save names nothing"),
        ("trainable_tokens", "a", "a in --trainable-tokens is no token id"),
        ("trainable_tokens", "9-5", "9-5 in --trainable-tokens is no range"),
        ("trainable_tokens", "0-99999999999", "is no range"),
        ("rank_pattern", ("q_proj",), "--rank-pattern q_proj is not REGEX=NUMBER"),
        ("rank_pattern", ("=4",), "is not REGEX=NUMBER"),
        ("alpha_pattern", ("q=x",), "--alpha-pattern q=x is not REGEX=NUMBER"),
        ("rank_pattern", ("(=4",), "is no regular expression"),
    ],
)
def test_what_cannot_be(knob, text, error):
    with pytest.raises(UsageError, match=error.replace("(", "[(]")) as raised:
        make_request({knob: text}, HARDWARE)
    assert raised.value.hint


def test_tokens_beyond_the_vocabulary():
    recipe = Recipe(trainable_tokens=(3, 100))
    require_tokens(recipe, {"vocab_size": 101})
    require_tokens(recipe, {})
    for config in ({"vocab_size": 100}, {"text_config": {"vocab_size": 100}}):
        with pytest.raises(UsageError, match="no token 100 to train: the model has 100"):
            require_tokens(recipe, config)


def test_in_words():
    recipe = Recipe(
        target_modules=("q_proj",), target_parameters=("experts.w",), dropout=0.0, rslora=True, bias="all",
        rank_pattern=(("q_proj", 4),), modules_to_save=("lm_head",), trainable_tokens=tuple(range(1000)),
    )  # fmt: skip
    assert targets(recipe) == "q and experts.w"
    assert list(trained_besides(recipe)) == [
        "rsLoRA", "r 4 on q_proj", "all biases trained", "lm_head trained whole", "1,000 tokens trained",
    ]  # fmt: skip
    assert list(trained_besides(Recipe())) == []
