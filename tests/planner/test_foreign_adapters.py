"""Adapters in other programs' words: PEFT's adapter_config.json, TRL's ModelConfig, axolotl, LLaMA-Factory."""

import json
import re

import pytest
from made_up import HARDWARE

from lplan.planner.foreign.formats import read_foreign
from lplan.planner.request import make_request
from lplan.profiles.errors import UsageError

PEFT = {"peft_type": "LORA", "r": 4, "output_dir": "out"}
TRL = {"use_peft": True, "output_dir": "out"}
AXOLOTL = {"base_model": "m", "adapter": "lora", "lora_r": 8, "lora_alpha": 16}
FACTORY = {"finetuning_type": "lora", "lora_rank": 8}
EMBEDDINGS = ("embed_tokens", "lm_head")


@pytest.fixture
def recipe(tmp_path):
    """Reads keys as a file, and makes the recipe that they ask for."""

    def make(keys):
        path = tmp_path / "file.json"
        path.write_text(json.dumps(keys))
        reading = read_foreign(path)
        assert not reading.not_understood
        return make_request(reading.asked, HARDWARE).recipe

    return make


@pytest.mark.parametrize(
    ("base", "keys", "expected"),
    [
        (PEFT, {"use_dora": True, "use_rslora": True}, {"dora": True, "rslora": True}),
        (PEFT, {"modules_to_save": list(EMBEDDINGS)}, {"modules_to_save": EMBEDDINGS}),
        (PEFT, {"target_modules": r".*layers\.[0-3]\..*_proj"}, {"target_modules": (r"re:.*layers\.[0-3]\..*_proj",)}),
        (PEFT, {"target_parameters": ["w.down_proj"]}, {"target_parameters": ("w.down_proj",), "dropout": 0}),
        (PEFT, {"rank_pattern": {"q_proj": 16}, "alpha_pattern": {"q_proj": 32}},
         {"rank_pattern": (("q_proj", 16),), "alpha_pattern": (("q_proj", 32),)}),
        (PEFT, {"rank_pattern": {}, "alpha_pattern": {}, "modules_to_save": None}, {"rank_pattern": ()}),
        (PEFT, {"trainable_token_indices": [7, 9]}, {"trainable_tokens": (7, 9)}),
        (PEFT, {"bias": "lora_only", "lora_bias": True}, {"bias": "lora-only", "lora_bias": True}),
        (TRL, {"lora_modules_to_save": ["lm_head"], "use_dora": True}, {"modules_to_save": ("lm_head",), "dora": True}),
        (TRL, {"lora_target_parameters": ["w"], "lora_dropout": 0.0}, {"target_parameters": ("w",)}),
        (AXOLOTL, {"peft_use_dora": True, "peft_use_rslora": True}, {"dora": True, "rslora": True}),
        (AXOLOTL, {"lora_modules_to_save": list(EMBEDDINGS)}, {"modules_to_save": EMBEDDINGS}),
        (AXOLOTL, {"lora_target_parameters": ["experts.down_proj"]}, {"target_parameters": ("experts.down_proj",)}),
        (AXOLOTL, {"peft_trainable_token_indices": [1, 2]}, {"trainable_tokens": (1, 2)}),
        (AXOLOTL, {"lora_rank_pattern": {"v_proj": 2}}, {"rank_pattern": (("v_proj", 2),)}),
        (AXOLOTL, {"reinit_weights": True}, {"init": "random"}),
        (FACTORY, {"use_dora": True, "use_rslora": True}, {"dora": True, "rslora": True}),
        (FACTORY, {"additional_target": "embed_tokens,lm_head"}, {"modules_to_save": EMBEDDINGS}),
        (FACTORY, {"finetuning_type": "full", "train_from_scratch": True}, {"init": "random", "method": "full"}),
    ],
)  # fmt: skip
def test_what_peft_is_told(recipe, base, keys, expected):
    found = recipe({**base, **keys})
    assert {knob: getattr(found, knob) for knob in expected} == expected


def test_what_peft_would_refuse_is_refused(recipe):
    """TRL's own default is a dropout of 0.05, and PEFT has none for parameters."""
    with pytest.raises(UsageError, match="lora_dropout with target_parameters"):
        recipe({**TRL, "lora_target_parameters": ["experts.down_proj"]})


@pytest.mark.parametrize("keys", [{"rank_pattern": {"q_proj": "wide"}}, {"trainable_token_indices": ["a"]}])
def test_values_that_cannot_be(recipe, keys):
    with pytest.raises(UsageError, match=f"^{next(iter(keys))} in .* not a"):
        recipe({**PEFT, **keys})


def test_tokens_of_other_layers_are_named(tmp_path):
    path = tmp_path / "file.json"
    path.write_text(json.dumps({**PEFT, "trainable_token_indices": {"lm_head": [1]}}))
    assert "trainable_token_indices" in read_foreign(path).not_understood


PATHS = [
    f"model.layers.{layer}.{name}"
    for layer in range(12)
    for name in ("self_attn.q_proj", "self_attn.v_proj", "mlp.down_proj", "mlp.experts.1.w1")
] + ["model.embed_tokens", "lm_head"]
NAMES = {"target_modules": ["q_proj", "v_proj", "w1"]}


@pytest.mark.parametrize(
    "keys",
    [
        {**NAMES, "layers_to_transform": [1, 11]},
        {**NAMES, "layers_to_transform": 3},
        {**NAMES, "layers_to_transform": [0, 2], "layers_pattern": "layers"},
        {**NAMES, "exclude_modules": ["v_proj"]},
        {**NAMES, "exclude_modules": r".*layers\.[0-5]\..*"},
        {**NAMES, "layers_to_transform": [0, 1], "exclude_modules": ["self_attn.q_proj"]},
        {"target_modules": r".*_proj", "exclude_modules": ["down_proj"]},
    ],
    ids=lambda keys: " ".join(list(keys)[1:]),
)
def test_modules_of_some_layers_are_those_that_peft_takes(recipe, keys):
    """peft's own check says which paths; the expression that is asked for has to match the same."""
    from peft import LoraConfig
    from peft.tuners.tuners_utils import _ExcludedModule, check_target_module_exists

    theirs = LoraConfig(**keys)
    if isinstance(theirs.target_modules, list):
        theirs.target_modules = set(theirs.target_modules)
    answers = {path: check_target_module_exists(theirs, path) for path in PATHS}
    taken = {path for path, found in answers.items() if found and not isinstance(found, _ExcludedModule)}
    (expression,) = recipe({**PEFT, **keys}).target_modules
    assert {path for path in PATHS if re.fullmatch(expression.removeprefix("re:"), path)} == taken
    assert taken


def test_layers_of_modules_that_the_model_decides_are_not_understood(tmp_path):
    path = tmp_path / "file.json"
    path.write_text(json.dumps({**PEFT, "target_modules": "all-linear", "layers_to_transform": [1]}))
    reading = read_foreign(path)
    assert set(reading.not_understood) == {"layers_to_transform"}
    assert reading.asked["target_modules"] == "all-linear"


def test_axolotls_layers(recipe):
    keys = {"lora_target_modules": ["q_proj"], "peft_layers_to_transform": [4]}
    (expression,) = recipe({**AXOLOTL, **keys}).target_modules
    assert [path for path in PATHS if re.fullmatch(expression[3:], path)] == [
        "model.layers.4.self_attn.q_proj"
    ]


@pytest.mark.parametrize(
    ("base", "keys", "expected"),
    [
        (PEFT, {"eval_accumulation_steps": 4}, {"eval_accumulation_steps": 4}),
        (PEFT, {"prediction_loss_only": True}, {"eval_logits": "none"}),
        (TRL, {"batch_eval_metrics": True}, {"eval_logits": "none"}),
        (AXOLOTL, {"eval_accumulation_steps": 2}, {"eval_accumulation_steps": 2}),
        (FACTORY, {"eval_strategy": "steps", "compute_accuracy": True, "val_size": 200},
         {"eval_logits": "argmax", "eval_samples": 200}),
        (FACTORY, {"compute_accuracy": True, "val_size": 200}, {"eval_logits": "none"}),
    ],
)  # fmt: skip
def test_what_an_evaluation_keeps(recipe, base, keys, expected):
    found = recipe({**base, **keys})
    assert {knob: getattr(found, knob) for knob in expected} == expected


def test_an_accuracy_over_a_share_of_the_data_is_not_understood(tmp_path):
    path = tmp_path / "file.json"
    path.write_text(
        json.dumps({**FACTORY, "eval_strategy": "steps", "compute_accuracy": True, "val_size": 0.1})
    )
    assert set(read_foreign(path).not_understood) == {"compute_accuracy"}
