"""Merging: the weights that PEFT would make, the answers of base and adapter, under the memory that was stated."""

import json
import os
import subprocess
import sys

import pytest
import torch
from peft import IA3Config, LoraConfig, PeftModel, get_peft_model
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
)

from lplan.profiles.errors import DoesNotFitError, LplanError, UsageError
from lplan.trainer.merging.check import compare, steps_apart
from lplan.trainer.merging.merge import merge, plan_merge

LIBRARIES_BYTES = 100 * 2**20
COMMON = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "vocab_size": 90, "max_position_embeddings": 64,
}  # fmt: skip


def base_model(folder, kind="llama", dtype=torch.bfloat16, shard="5GB", **sizes):
    torch.manual_seed(0)
    if kind == "gpt2":
        model = GPT2LMHeadModel(GPT2Config(n_embd=32, n_layer=2, n_head=4, vocab_size=90, n_positions=64))
    elif kind == "mixtral":
        model = MixtralForCausalLM(MixtralConfig(**COMMON, num_key_value_heads=4, num_local_experts=3))
    else:
        model = LlamaForCausalLM(LlamaConfig(**{**COMMON, **sizes}))
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter, std=0.05)
    model.to(dtype).save_pretrained(folder, max_shard_size=shard)
    return folder


def adapter_of(base, folder, kind=LoraConfig, **config):
    """An adapter of which nothing is as it began."""
    torch.manual_seed(1)
    model = AutoModelForCausalLM.from_pretrained(base, dtype="auto")
    usual = {"r": 4, "lora_alpha": 16, "target_modules": "all-linear"} if kind is LoraConfig else {}
    wrapped = get_peft_model(model, kind(**{**usual, "task_type": "CAUSAL_LM", **config}))
    for parameter in wrapped.parameters():
        if parameter.requires_grad:
            parameter.data += 0.05 * torch.randn_like(parameter)
    wrapped.save_pretrained(folder)
    return folder


def merged(base, adapter, output):
    """The plan, and the model that the merged folder holds."""
    plan = plan_merge(base, adapter, libraries_bytes=LIBRARIES_BYTES, ram_bytes=None)
    merge(base, adapter, output, plan=plan)
    return plan, AutoModelForCausalLM.from_pretrained(output)


def beside(base, adapter):
    return PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), adapter).eval()


def logits(model):
    with torch.no_grad():
        return model(input_ids=torch.arange(1, 33)[None]).logits


@pytest.mark.parametrize(
    ("kind", "sizes", "config"),
    [
        ("llama", {}, {}),
        ("llama", {}, {"use_rslora": True}),
        ("llama", {}, {"use_dora": True}),
        ("llama", {}, {"rank_pattern": {"q_proj": 2}, "alpha_pattern": {"0.self_attn.q_proj": 3}}),
        ("llama", {}, {"target_modules": ["q_proj"], "modules_to_save": ["lm_head", "embed_tokens"]}),
        ("llama", {"attention_bias": True}, {"target_modules": ["q_proj"], "lora_bias": True}),
        ("llama", {"attention_bias": True}, {"target_modules": ["q_proj"], "bias": "all"}),
        ("llama", {"attention_bias": True}, {"target_modules": ["q_proj"], "bias": "lora_only"}),
        ("llama", {}, {"target_modules": ["embed_tokens", "lm_head"]}),
        ("llama", {}, {"target_modules": ["embed_tokens"], "use_dora": True}),
        ("llama", {}, {"target_modules": ["q_proj"], "trainable_token_indices": [0, 7, 89]}),
        ("llama", {"tie_word_embeddings": True}, {}),
        ("llama", {"tie_word_embeddings": True}, {"trainable_token_indices": {"embed_tokens": [3]}}),
        ("gpt2", {}, {"target_modules": ["c_attn", "c_proj"], "fan_in_fan_out": True}),
        ("gpt2", {}, {"target_modules": ["c_attn"], "fan_in_fan_out": True, "use_dora": True}),
        ("mixtral", {}, {"target_modules": ["q_proj", "o_proj"]}),
    ],
)
def test_merged_weights_are_pefts(tmp_path, kind, sizes, config):
    base = base_model(tmp_path / "base", kind, torch.float32, shard="20KB", **sizes)
    adapter = adapter_of(base, tmp_path / "adapter", **config)
    assert len(list(base.glob("*.safetensors"))) > 1
    plan, found = merged(base, adapter, tmp_path / "merged")
    assert plan.by_peft is None
    wanted = beside(base, adapter).merge_and_unload().state_dict()
    assert found.state_dict().keys() == wanted.keys()
    for name, value in wanted.items():
        torch.testing.assert_close(found.state_dict()[name], value, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shard", ["20KB", "5GB"])
@pytest.mark.parametrize(
    "config",
    [
        {"target_modules": ["q_proj", "lm_head"]},
        {"target_modules": ["embed_tokens"]},
        {"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]},
        {"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens"]},
    ],
)
def test_tied_embeddings_that_an_adapter_changes_apart_come_apart(tmp_path, shard, config):
    """PEFT merges an update of one of the two into both; what was trained is what base and adapter answer."""
    base = base_model(tmp_path / "base", dtype=torch.float32, shard=shard, tie_word_embeddings=True)
    adapter = adapter_of(base, tmp_path / "adapter", **config)
    plan, found = merged(base, adapter, tmp_path / "merged")
    assert (plan.by_peft, plan.unties, found.config.tie_word_embeddings) == (None, True, False)
    torch.testing.assert_close(logits(found), logits(beside(base, adapter)), rtol=1e-4, atol=1e-5)
    compare(base, adapter, tmp_path / "merged")


@pytest.mark.parametrize(
    ("kind", "how", "config", "reason"),
    [
        ("mixtral", LoraConfig, {"target_modules": [], "target_parameters": ["experts.down_proj"]}, "bare parameters"),
        ("llama", IA3Config, {"target_modules": ["k_proj"], "feedforward_modules": []}, "no LoRA but IA3"),
        ("llama", LoraConfig, {"target_modules": ["q_proj"], "init_lora_weights": "pissa"}, "began as pissa"),
    ],
)  # fmt: skip
def test_what_is_not_our_formula_is_merged_by_peft(tmp_path, kind, how, config, reason):
    base = base_model(tmp_path / "base", kind, torch.float32)
    adapter = adapter_of(base, tmp_path / "adapter", how, **config)
    plan, found = merged(base, adapter, tmp_path / "merged")
    assert reason in plan.by_peft
    torch.testing.assert_close(logits(found), logits(beside(base, adapter)), rtol=1e-4, atol=1e-5)
    with pytest.raises(DoesNotFitError, match="only PEFT"):
        plan_merge(base, adapter, libraries_bytes=LIBRARIES_BYTES, ram_bytes=LIBRARIES_BYTES)


def test_a_bias_without_a_place_is_refused_before_anything_is_written(tmp_path):
    base = base_model(tmp_path / "base")
    adapter = adapter_of(base, tmp_path / "adapter", target_modules=["q_proj"], lora_bias=True)
    with pytest.raises(UsageError, match="this base lacks"):
        plan_merge(base, adapter, libraries_bytes=0, ram_bytes=None)


def test_an_adapter_of_a_wider_model_is_refused(tmp_path):
    base = base_model(tmp_path / "base")
    adapter = adapter_of(base_model(tmp_path / "wide", hidden_size=64), tmp_path / "adapter")
    with pytest.raises(LplanError, match="does not go with this base"):
        plan_merge(base, adapter, libraries_bytes=0, ram_bytes=None)


def test_what_peft_refuses_is_refused_in_a_line(tmp_path):
    from peft import PromptTuningConfig

    base = base_model(tmp_path / "base")
    adapter = adapter_of(base, tmp_path / "adapter", PromptTuningConfig, num_virtual_tokens=2)
    plan = plan_merge(base, adapter, libraries_bytes=0, ram_bytes=None)
    with pytest.raises(UsageError, match="PEFT cannot merge"):
        merge(base, adapter, tmp_path / "merged", plan=plan)
    assert not list(tmp_path.glob("*merged*"))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("config", [{}, {"use_dora": True}, {"lora_alpha": 1}])
def test_the_check_passes_rounding_and_finds_a_wrong_merge(tmp_path, dtype, config):
    base = base_model(tmp_path / "base", dtype=dtype)
    adapter = adapter_of(base, tmp_path / "adapter", **config)
    merged(base, adapter, tmp_path / "merged")
    agreement = compare(base, adapter, tmp_path / "merged")
    assert agreement.weights == 2 * 9 + 3
    assert agreement.steps <= 1.5
    wrong = json.loads((adapter / "adapter_config.json").read_text())
    wrong["lora_alpha"] *= 1.5
    (adapter / "adapter_config.json").write_text(json.dumps(wrong))
    with pytest.raises(LplanError, match="not what PEFT makes"):
        compare(base, adapter, tmp_path / "merged")


def test_steps_are_counted_in_units_of_the_last_place():
    """bf16 has 8 significant bits: the numbers after 1 and 2 are 1 + 2**-7 and 2 + 2**-6."""
    exact = torch.tensor([1.0, 2.0, -4.0], dtype=torch.bfloat16)
    assert steps_apart(exact, exact) == 0
    off = exact + torch.tensor([2**-7, 2 * 2**-6, 0], dtype=torch.bfloat16)
    assert steps_apart(exact, off) == pytest.approx(2, rel=2e-3)
    assert not steps_apart(exact, exact * float("nan")) <= 2


def test_too_little_memory_is_refused_with_what_it_needs(tmp_path):
    base = base_model(tmp_path / "base")
    adapter = adapter_of(base, tmp_path / "adapter")
    with pytest.raises(DoesNotFitError) as caught:
        plan_merge(base, adapter, libraries_bytes=LIBRARIES_BYTES, ram_bytes=LIBRARIES_BYTES)
    assert "--ram" in caught.value.hint


@pytest.mark.parametrize(
    ("words", "sizes", "by_peft"),
    [
        (("--ram", "600M"), {"num_hidden_layers": 8}, False),
        ((), {"num_hidden_layers": 2}, True),
    ],
)
def test_the_stated_peak_holds_in_a_process(tmp_path, words, sizes, by_peft):
    """Blocks: a base of 440 MB under the libraries and 5 small blocks. By PEFT: the whole of 140 MB besides."""
    sizes = {"hidden_size": 1024, "intermediate_size": 8192, "vocab_size": 1000, **sizes}
    base = base_model(tmp_path / "base", **sizes)
    begins = {"init_lora_weights": "olora"} if by_peft else {}
    adapter = adapter_of(base, tmp_path / "adapter", target_modules=["up_proj", "q_proj"], **begins)
    base_bytes = sum(file.stat().st_size for file in base.glob("*.safetensors"))
    words = ["merge", adapter, "--output", tmp_path / "merged", *words, "--json"]
    run = subprocess.run(
        [sys.executable, "-m", "lplan", *map(str, words)],
        capture_output=True, text=True, check=True, env={**os.environ, "LPLAN_CACHE": str(tmp_path / "cache")},
    )  # fmt: skip
    document = json.loads(run.stdout)
    assert document["schema"] == "lplan.merge/1"
    assert (document["plan"]["by_peft"] is not None) is by_peft
    assert document["measured_bytes"] <= document["plan"]["peak_bytes"]
    assert document["agreement"]["steps"] <= 2
    if not by_peft:
        assert document["plan"]["peak_bytes"] <= 600 * 2**20
        assert base_bytes > 400 * 2**20
