"""Every form of adapter: the traced step against the real one, trainable parameters derived, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tiny_models import TINY_MODELS, VOCABULARY, make_model, real_peaks, traced_peaks, with_layers

from lplan.planner.polynomial import Shape
from lplan.planner.recipe import Recipe
from lplan.planner.tracing.trace import trace, trace_whole
from lplan.profiles.errors import UsageError

SHAPE = Shape(batch=3, seq=48, supervised=100, chunk=32)
INDEX_BYTES = 8
"""PEFT makes an int64 tensor of the token ids, which a CPU has and meta has not."""

LLAMA = TINY_MODELS["llama"]
TIED = {**LLAMA, "tie_word_embeddings": True}
GPT2, MIXTRAL = TINY_MODELS["gpt2"], TINY_MODELS["mixtral"]
EMBEDDINGS = ("embed_tokens", "lm_head")
EXPERTS = ("experts.gate_up_proj", "experts.down_proj")
FIRST_LAYER = r"layers\.0\..*q_proj"
LAST_LAYER = (r"re:.*layers\.1\..*proj",)

CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "dora": (LLAMA, {"dora": True}),
    "dora without dropout": (LLAMA, {"dora": True, "dropout": 0.0}),
    "dora without casting": (LLAMA, {"dora": True, "input_casting": False}),
    "dora in bf16": (LLAMA, {"dora": True, "adapter_dtype": "base"}),
    "dora under autocast": (LLAMA, {"dora": True, "precision": "bf16-amp"}),
    "dora on packed linears, recomputed": (GPT2, {"dora": True, "checkpointing": "full"}),
    "copies of embeddings and head": (LLAMA, {"modules_to_save": EMBEDDINGS, "loss": "chunked"}),
    "copies of tied embeddings": (TIED, {"modules_to_save": EMBEDDINGS}),
    "a copy of one tied module": (TIED, {"modules_to_save": ("embed_tokens",), "adapter_dtype": "base"}),
    "copies of every norm": (LLAMA, {"modules_to_save": ("norm",)}),
    "tokens": (LLAMA, {"trainable_tokens": (3, 5, 9)}),
    "tied tokens": (TIED, {"trainable_tokens": (3, 5, 9), "loss": "supervised"}),
    "tied tokens under autocast": (TIED, {"trainable_tokens": (3, 5, 9), "precision": "bf16-amp"}),
    "a rank by layer": (LLAMA, {"rank_pattern": ((FIRST_LAYER, 16),)}),
    "modules by expression": (LLAMA, {"target_modules": LAST_LAYER}),
    "bias on B": (GPT2, {"lora_bias": True}),
    "bias on B without casting": (GPT2, {"lora_bias": True, "input_casting": False}),
    "all biases": (GPT2, {"bias": "all"}),
    "biases of adapted layers": (GPT2, {"bias": "lora-only"}),
    "embeddings adapted with dora": (LLAMA, {"target_modules": ("q_proj", "embed_tokens"), "dora": True}),
    "head adapted": (LLAMA, {"target_modules": ("q_proj", "lm_head"), "loss": "chunked"}),
    "experts": (MIXTRAL, {"target_parameters": EXPERTS, "dropout": 0.0}),
    "experts alone": (MIXTRAL, {"target_parameters": EXPERTS[1:], "target_modules": (), "dropout": 0.0}),
    "experts recomputed": (
        MIXTRAL, {"target_parameters": EXPERTS[1:], "dropout": 0.0, "checkpointing": "full"},
    ),
    "experts under autocast": (
        MIXTRAL, {"target_parameters": EXPERTS[1:], "dropout": 0.0, "precision": "bf16-amp"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_the_traced_step_is_the_real_one(case: str) -> None:
    config, knobs = CASES[case]
    recipe = Recipe(accumulation=1, **knobs).graph()
    traced, real = traced_peaks(config, recipe, SHAPE), real_peaks(config, recipe, SHAPE)
    uses = 2 if config.get("tie_word_embeddings") else 1
    most = uses * INDEX_BYTES * len(recipe.trainable_tokens)
    assert all(0 <= real[phase] - traced[phase] <= most for phase in real), (traced, real)


WIDE, NARROW, INNER, EXPERT = 64, 16, 160, 160
QKVO = 8 * (2 * (WIDE + WIDE) + 2 * (WIDE + NARROW))
"""r 8 on q, k, v, o of a tiny llama: grouped keys and values."""


@pytest.mark.parametrize(
    ("config", "knobs", "expected"),
    [
        (LLAMA, {}, 2 * QKVO),
        (LLAMA, {"dora": True}, 2 * (QKVO + 2 * WIDE + 2 * NARROW)),  # a magnitude for every output
        (LLAMA, {"modules_to_save": EMBEDDINGS}, 2 * QKVO + 2 * VOCABULARY * WIDE),
        (TIED, {"modules_to_save": EMBEDDINGS}, 2 * QKVO + 2 * VOCABULARY * WIDE),  # PEFT unties the copies
        (TIED, {"modules_to_save": ("embed_tokens",)}, 2 * QKVO + VOCABULARY * WIDE),
        (TIED, {"trainable_tokens": (3, 5, 9)}, 2 * QKVO + 3 * WIDE),  # the tied head has the same rows
        (LLAMA, {"rank_pattern": ((FIRST_LAYER, 16),)}, 2 * QKVO + 8 * 2 * WIDE),
        (LLAMA, {"target_modules": (r"re:.*layers\.1\..*q_proj",)}, 8 * 2 * WIDE),
        (GPT2, {"lora_bias": True}, 2 * (8 * (WIDE + 3 * WIDE + 2 * WIDE) + 4 * WIDE)),
        (GPT2, {"bias": "lora-only"}, 2 * (8 * (WIDE + 3 * WIDE + 2 * WIDE) + 4 * WIDE)),
        (LLAMA, {"target_modules": ("embed_tokens",)}, 8 * (VOCABULARY + WIDE)),
        (MIXTRAL, {"target_parameters": EXPERTS[1:], "target_modules": (), "dropout": 0.0},
         2 * 4 * 8 * (WIDE + EXPERT)),  # r for each of four experts
    ],
)  # fmt: skip
def test_trainable_parameters(config: dict[str, Any], knobs: dict[str, Any], expected: int) -> None:
    """Derived by hand, and as PEFT counts them itself."""
    recipe = Recipe(accumulation=1, **knobs)
    model: Any = make_model(config, recipe, "meta")
    assert model.get_nb_trainable_parameters()[0] == expected
    footprint = trace(config, recipe.graph(), SHAPE)
    assert footprint.trainable_parameters.at(SHAPE.values(), footprint.extra_units) == expected
    base = sum(
        parameter.numel() for parameter in make_model(config, Recipe(method="full"), "meta").parameters()
    )
    assert footprint.parameters.at(SHAPE.values(), footprint.extra_units) == base


@pytest.mark.parametrize(
    ("knobs", "traced"),
    [
        ({"dora": True, "modules_to_save": EMBEDDINGS}, 3),
        ({"rank_pattern": ((FIRST_LAYER, 16),)}, 4),
        ({"target_modules": (r"re:.*layers\.1\..*proj",)}, 5),
        ({"rank_pattern": ((r"layers\.6\..*q_proj", 16),)}, 7),
    ],
)
def test_layers_that_differ_are_traced_and_the_rest_extrapolated(knobs: dict[str, Any], traced: int) -> None:
    config, recipe = with_layers("llama", 7), Recipe(accumulation=1, **knobs).graph()
    shape = replace(SHAPE, batch=2, seq=700)
    short, whole = trace(config, recipe, shape), trace_whole(config, recipe, shape)
    assert short.traced_layers == traced
    phases = ("first step", "steady step", "evaluation")
    assert [short.peak(p, shape) for p in phases] == [whole.peak(p, shape) for p in phases]


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"modules_to_save": ("embeddings",)}, "--modules-to-save embeddings matches nothing"),
        ({"modules_to_save": ("layers",)}, "refused by PEFT: .*No modules were targeted"),
        ({"rank_pattern": (("w1", 4),)}, "--rank-pattern w1 matches nothing"),
        ({"alpha_pattern": (("w1", 4),)}, "--alpha-pattern w1 matches nothing"),
        ({"target_parameters": ("experts.w1",), "dropout": 0.0}, "--target-parameters experts.w1 matches nothing"),
        ({"target_modules": ("re:.*w1",)}, "match nothing trainable"),
        ({"rank_pattern": (("q_proj", 65),)}, "rank 65 exceeds the width 64"),
        ({"modules_to_save": ("embed_tokens",), "trainable_tokens": (1,)}, "row by row"),
    ],
)  # fmt: skip
def test_what_this_model_cannot_have(knobs: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message) as raised:
        make_model(LLAMA, Recipe(**knobs), "meta")
    assert raised.value.hint
    assert "\n" not in str(raised.value)


PARAMETERS = {"target_parameters": EXPERTS, "dropout": 0.0}


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"dora": True, "lora_bias": True}, "refuses lora_bias with use_dora"),
        ({**PARAMETERS, "dora": True}, "refuses it on parameters"),
        ({**PARAMETERS, "lora_bias": True}, "refuses a bias on adapters of parameters"),
        ({**PARAMETERS, "dropout": 0.05}, "refuses lora_dropout with target_parameters"),
        ({"precision": "fp16", "device": "cuda", "modules_to_save": EMBEDDINGS}, "refuses fp16 gradients"),
        ({"precision": "fp16", "device": "cuda", "bias": "all"}, "refuses fp16 gradients"),
        ({"target_modules": ("re:(",)}, "no regular expression"),
        ({"target_modules": ("re:a", "b")}, "stands alone"),
        ({"rank_pattern": (("a", 0),)}, "at least 1"),
        ({"trainable_tokens": (3, 3)}, "each of them once"),
        ({"target_modules": ()}, "no target modules"),
    ],
)
def test_what_the_libraries_refuse(knobs: dict[str, Any], message: str) -> None:
    gpu = {"kernel": "efficient", "allocator": "default"} if knobs.get("device") == "cuda" else {}
    with pytest.raises(UsageError, match=message) as raised:
        Recipe(**knobs, **gpu)
    assert raised.value.hint or "at least 1" in message or "once" in message


@pytest.mark.parametrize("knobs", [{"dora": True, "lora_bias": True}, {**PARAMETERS, "dora": True}])
def test_peft_does_refuse_it(knobs: dict[str, Any]) -> None:
    """Should a newer PEFT take what is refused here, the rule has to go."""
    from peft import LoraConfig, get_peft_model

    names = {"dora": "use_dora", "lora_bias": "lora_bias", "target_parameters": "target_parameters"}
    options: dict[str, Any] = {names[knob]: value for knob, value in knobs.items() if knob in names}
    with pytest.raises(ValueError, match=r"DoRA|use_dora"):
        get_peft_model(
            make_model(MIXTRAL, Recipe(method="full"), "meta"),
            LoraConfig(target_modules=["q_proj"], **{**options, "target_parameters": list(EXPERTS)})
            if "target_parameters" in options
            else LoraConfig(target_modules=["q_proj"], **options),
        )


def test_full_fine_tuning_has_no_adapters_to_differ_in() -> None:
    recipe = Recipe(method="full", dora=True, modules_to_save=EMBEDDINGS, rank_pattern=(("a", 3),))
    assert recipe.graph() == Recipe(method="full").graph()


def test_a_recipe_survives_its_document() -> None:
    recipe = Recipe(
        rank_pattern=(("q_proj", 4), ("v_proj", 2)), alpha_pattern=(("q_proj", 8),), trainable_tokens=(3, 5),
        modules_to_save=EMBEDDINGS, dora=True, rslora=True, bias="all",
    )  # fmt: skip
    assert recipe.to_dict()["rank_pattern"] == {"q_proj": 4, "v_proj": 2}
    assert Recipe.from_dict(recipe.to_dict()) == recipe


@pytest.mark.parametrize("precision", ["bf16", "bf16-amp"])
def test_dora_and_copies_over_quantized_weights(precision: Any) -> None:
    """What is copied is no quantized linear, and PEFT dequantizes a base weight for its norm."""
    recipe = Recipe(
        method="qlora", quantization="nf4", device="cuda", kernel="efficient", allocator="default",
        precision=precision, dora=True, modules_to_save=EMBEDDINGS, accumulation=1,
    )  # fmt: skip
    plain = replace(recipe, dora=False)
    found, without = (trace(LLAMA, r.graph(), SHAPE).peak("steady step", SHAPE) for r in (recipe, plain))
    assert found["adapters"] - without["adapters"] == 2 * 4 * (2 * WIDE + 2 * NARROW)
    assert found["activations"] > without["activations"]
    with pytest.raises(UsageError, match="quantized linears cannot be trained whole"):
        make_model(LLAMA, replace(recipe, modules_to_save=("down_proj",)), "meta")


@pytest.mark.parametrize(
    ("knobs", "expected"),
    [
        ({"dora": True}, 2 * (2 * WIDE * WIDE + 2 * WIDE * NARROW)),  # the norms of q, k, v, o
        ({"modules_to_save": EMBEDDINGS}, 2 * VOCABULARY * WIDE),
    ],
)
def test_wrapping_reads_weights_that_are_mapped_until_then(knobs: dict[str, Any], expected: int) -> None:
    footprint = trace(LLAMA, Recipe(accumulation=1, **knobs).graph(), SHAPE)
    assert footprint.peak("wrap", SHAPE) == {"weights": 2 * expected}  # bf16
    assert "wrap" not in trace(LLAMA, Recipe(accumulation=1).graph(), SHAPE).phases
