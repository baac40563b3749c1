"""From what was asked for to a recipe: given knobs stay, the rest is usual, what cannot be is refused."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_up import HARDWARE, MODEL

from lplan.planner.recipe import ALL_LINEAR, ATTENTION
from lplan.planner.request import (
    context_length,
    fit_to_data,
    make_request,
    require_context,
    taken_by_default,
)
from lplan.planner.tokens import TokenLengths
from lplan.profiles.errors import UsageError
from lplan.profiles.named import find_hardware


def request(**asked):
    return make_request(asked, HARDWARE)


def lengths(*total, supervised=10, truncated=0):
    return TokenLengths(total=total, supervised=(supervised,) * len(total), truncated=truncated)


def test_nothing_asked_for_is_the_founding_recipe():
    recipe = request().recipe
    assert (recipe.rank, recipe.alpha, recipe.dropout) == (8, 16, 0.05)
    assert (recipe.target_modules, recipe.batch_size, recipe.accumulation) == (ATTENTION, 2, 4)
    assert (recipe.seq_len, recipe.threads) == (512, HARDWARE.cores)
    schedule = request().schedule
    assert (schedule.epochs, schedule.learning_rate, schedule.warmup_steps) == (3, 2e-4, 50)


def test_what_is_given_stays_and_is_remembered():
    asked = request(rank=4, precision="fp32", max_steps=7, alpha=None, model="passed over")
    assert (asked.recipe.rank, asked.recipe.precision, asked.schedule.max_steps) == (4, "fp32", 7)
    assert {"rank", "precision", "max_steps"} <= asked.given
    assert "alpha" not in asked.given


def test_a_tasks_defaults_give_way_to_what_is_given():
    usual = {"rank": 32, "alpha": 64, "learning_rate": 1e-3, "scheduler": "linear", "accumulation": 8}
    asked = make_request({"rank": 4, "learning_rate": 5e-5}, HARDWARE, usual)
    assert (asked.recipe.rank, asked.recipe.alpha, asked.recipe.effective_batch) == (4, 64, 16)
    assert (asked.schedule.learning_rate, asked.schedule.scheduler) == (5e-5, "linear")


@pytest.mark.parametrize(
    ("asked", "batch", "accumulation"),
    [
        ({}, 2, 4),
        ({"batch_size": 1}, 1, 8),
        ({"batch_size": 4}, 4, 2),
        ({"batch_size": 8}, 8, 1),
        ({"batch_size": 3}, 3, 3),  # 9 is as near to 8 as threes come
        ({"batch_size": 16}, 16, 1),
        ({"effective_batch": 16}, 2, 8),
        ({"effective_batch": 3}, 1, 3),
        ({"effective_batch": 1}, 1, 1),
        ({"effective_batch": 12, "batch_size": 6}, 6, 2),
    ],
)
def test_the_effective_batch_is_kept(asked, batch, accumulation):
    recipe = request(**asked).recipe
    assert (recipe.batch_size, recipe.accumulation) == (batch, accumulation)


def test_a_micro_batch_that_does_not_divide_the_effective_one():
    with pytest.raises(UsageError, match="no multiple of the micro batch 4") as caught:
        request(batch_size=4, effective_batch=6)
    assert "divisor" in caught.value.hint


@pytest.mark.parametrize(
    ("text", "modules"),
    [
        ("attention", ATTENTION),
        ("all-linear", ALL_LINEAR),
        ("q_proj,v_proj", ("q_proj", "v_proj")),
        (" q_proj , v_proj ,", ("q_proj", "v_proj")),
    ],
)
def test_target_modules(text, modules):
    assert request(target_modules=text).recipe.target_modules == modules


@pytest.mark.parametrize("text", ["", ",", " , "])
def test_target_modules_that_name_nothing(text):
    with pytest.raises(UsageError, match="names nothing"):
        request(target_modules=text)


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        ({"method": "qlora"}, "slower and no smaller in practice on a CPU"),
        ({"quantization": "nf4"}, "slower and no smaller in practice on a CPU"),
        ({"precision": "fp16"}, "CPUs compute bf16 or fp32"),
        ({"precision": "fp16-amp"}, "CPUs compute bf16 or fp32"),
        ({"attention": "flash"}, "needs a GPU"),
        ({"optimizer": "adamw-8bit"}, "kernels for GPUs"),
        ({"allocator": "expandable"}, "CUDA's"),
        ({"offload": ("activations", "weights")}, "from a GPU to host memory"),
    ],
)
def test_what_a_cpu_has_not(asked, why):
    with pytest.raises(UsageError, match=why) as caught:
        request(**asked)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        ({"method": "qlora", "quantization": "none"}, "needs a quantization"),
        ({"method": "full", "quantization": "nf4"}, "cannot be trained"),
        ({"precision": "fp16", "method": "full"}, "unscaled"),
        ({"precision": "fp16", "adapter_dtype": "base"}, "unscaled"),
        ({"attention": "flash", "precision": "fp32"}, "fp16 and bf16 only"),
        ({"allocator": "pinned"}, "for CPUs"),
    ],
)
def test_what_a_gpu_has_not(asked, why):
    with pytest.raises(UsageError, match=why) as caught:
        make_request(asked, find_hardware("t4"), device="cuda")
    assert caught.value.hint


def test_qlora_and_quantization_stand_for_each_other():
    t4 = find_hardware("t4")
    for asked in ({"method": "qlora"}, {"quantization": "nf4"}, {"method": "lora", "quantization": "nf4"}):
        recipe = make_request(asked, t4, device="cuda").recipe
        assert (recipe.method, recipe.quantization) == ("qlora", "nf4")


@pytest.mark.parametrize(
    "asked",
    [{"quantization": "none"}, {"offload": ()}, {"offload": ("none",)}],
)
def test_asking_for_none_of_it_is_no_request(asked):
    assert request(**asked).recipe == request().recipe


def test_every_token_carries_loss_until_the_data_is_known():
    assert request(seq_len=1024).recipe.supervised_len == 1024


def test_lengths_are_padded_to_a_multiple():
    fitted = fit_to_data(request(), lengths(*range(20, 100), supervised=30)).recipe
    # 20 to 99 in steps of 16: 32, 48, 64, 80, 96, 112 are six lengths, and few enough.
    assert (fitted.seq_len, fitted.pad_to_multiple_of, fitted.length_buckets) == (112, 16, 6)
    assert (fitted.supervised_len, fitted.padding) == (30, "padded")


def test_sequences_of_one_length_need_no_padding():
    fitted = fit_to_data(request(), lengths(77, 77, 77)).recipe
    assert (fitted.seq_len, fitted.padding, fitted.pad_to_multiple_of) == (77, "none", 1)


def test_padding_is_kept_where_it_was_asked_for():
    assert fit_to_data(request(padding="padded"), lengths(77, 77)).recipe.padding == "padded"


def test_ragged_sequences_cannot_go_without_padding():
    with pytest.raises(UsageError, match="differ in length") as caught:
        fit_to_data(request(padding="none"), lengths(20, 30))
    assert "--batch-size 1" in caught.value.hint
    fitted = fit_to_data(request(padding="none", batch_size=1), lengths(20, 30)).recipe
    assert (fitted.seq_len, fitted.padding, fitted.pad_to_multiple_of) == (30, "none", 1)


@given(st.lists(st.integers(1, 5000), min_size=1, max_size=60))
def test_a_fitted_length_holds_every_sequence_and_little_more(total):
    fitted = fit_to_data(request(), lengths(*total)).recipe
    assert max(total) <= fitted.seq_len < max(total) + fitted.pad_to_multiple_of
    assert 1 <= fitted.length_buckets <= min(8, len(total))


@pytest.mark.parametrize(
    ("config", "context"),
    [
        ({"max_position_embeddings": 2048}, 2048),
        ({"n_positions": 1024, "n_ctx": 512}, 1024),
        ({"text_config": {"max_position_embeddings": 4096}}, 4096),
        ({"max_position_embeddings": None, "n_ctx": 0}, None),
        ({}, None),
    ],
)
def test_the_context_of_a_model(config, context):
    assert context_length(config) == context


def test_a_model_with_a_table_of_positions_ends_with_it():
    gpt2 = replace(MODEL, id="gpt2", model_type="gpt2", config={"n_positions": 1024})
    assert require_context(gpt2, 1024) == ()
    with pytest.raises(UsageError, match=r"positions for 1,024 tokens, not for 1,025") as caught:
        require_context(gpt2, 1025)
    assert caught.value.hint == "at most --seq-len 1024"


def test_beyond_the_context_of_a_model_with_rotary_positions_is_said():
    llama = replace(MODEL, config={"max_position_embeddings": 2048})
    (line,) = require_context(llama, 4096)
    assert "4,096" in line
    assert "2,048" in line
    assert require_context(llama, None) == require_context(MODEL, 10**6) == ()


def test_what_nobody_asked_for_is_said():
    (line,) = taken_by_default(request(rank=4, seq_len=128))
    assert "micro batch 2" in line
    assert "bf16" in line
    assert "rank" not in line
    assert "128" not in line


def test_full_fine_tuning_has_no_rank_to_take():
    (line,) = taken_by_default(request(method="full"))
    assert "rank" not in line
