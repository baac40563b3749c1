"""Merging: the weights that PEFT would make, under the memory that was stated."""

import json
import os
import subprocess
import sys

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from lplan.profiles.errors import DoesNotFitError, UsageError
from lplan.trainer.merging import merge, plan_merge

LIBRARIES_BYTES = 100 * 2**20


def base_model(folder, kind="llama", dtype=torch.bfloat16, shard="5GB", **sizes):
    torch.manual_seed(0)
    if kind == "gpt2":
        model = GPT2LMHeadModel(GPT2Config(n_embd=32, n_layer=2, n_head=4, vocab_size=90, n_positions=64))
    else:
        common = {
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
        }
        model = LlamaForCausalLM(LlamaConfig(**{**common, "vocab_size": 90, **sizes}))
    model.to(dtype).save_pretrained(folder, max_shard_size=shard)
    return folder


def adapter_of(base, folder, **config):
    torch.manual_seed(1)
    model = AutoModelForCausalLM.from_pretrained(base, dtype="auto")
    wrapped = get_peft_model(
        model, LoraConfig(**{"r": 4, "lora_alpha": 16, "target_modules": "all-linear", **config})
    )
    for name, parameter in wrapped.named_parameters():
        if "lora_B" in name or "modules_to_save" in name:
            torch.nn.init.normal_(parameter, std=0.05)
    wrapped.save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    ("kind", "config"),
    [
        ("llama", {}),
        ("llama", {"use_rslora": True}),
        ("llama", {"use_dora": True}),
        ("llama", {"rank_pattern": {"q_proj": 2}, "alpha_pattern": {"0.self_attn.q_proj": 3}}),
        ("llama", {"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]}),
        ("gpt2", {"target_modules": ["c_attn", "c_proj"], "fan_in_fan_out": True}),
    ],
)
def test_merged_weights_are_pefts(tmp_path, kind, config):
    base = base_model(tmp_path / "base", kind, torch.float32, shard="20KB")
    adapter = adapter_of(base, tmp_path / "adapter", **config)
    assert len(list(base.glob("*.safetensors"))) > 1
    plan = plan_merge(base, adapter, libraries_bytes=LIBRARIES_BYTES, ram_bytes=None)
    merge(base, adapter, tmp_path / "merged", plan=plan)
    wanted = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), adapter).merge_and_unload()
    found = AutoModelForCausalLM.from_pretrained(tmp_path / "merged").state_dict()
    assert found.keys() == wanted.state_dict().keys()
    for name, value in wanted.state_dict().items():
        torch.testing.assert_close(found[name], value, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"target_modules": ["q_proj"], "lora_bias": True}, "lora_bias"),
        ({"target_modules": ["embed_tokens"]}, "no weight"),
    ],
)
def test_what_cannot_be_merged_is_refused_before_anything_is_written(tmp_path, config, reason):
    base = base_model(tmp_path / "base", attention_bias=True)
    adapter = adapter_of(base, tmp_path / "adapter", **config)
    with pytest.raises(UsageError, match=reason):
        plan_merge(base, adapter, libraries_bytes=0, ram_bytes=None)


def test_too_little_memory_is_refused_with_what_it_needs(tmp_path):
    base = base_model(tmp_path / "base")
    adapter = adapter_of(base, tmp_path / "adapter")
    with pytest.raises(DoesNotFitError) as caught:
        plan_merge(base, adapter, libraries_bytes=LIBRARIES_BYTES, ram_bytes=LIBRARIES_BYTES)
    assert "--ram" in caught.value.hint


def test_the_stated_peak_holds_in_a_process_and_is_below_the_model(tmp_path):
    """A base of 440 MB under the libraries and 5 small blocks; the merged folder is loaded and compared."""
    sizes = {"hidden_size": 1024, "intermediate_size": 8192, "num_hidden_layers": 8, "vocab_size": 1000}
    base = base_model(tmp_path / "base", **sizes)
    adapter = adapter_of(base, tmp_path / "adapter", target_modules=["up_proj", "q_proj"])
    base_bytes = sum(file.stat().st_size for file in base.glob("*.safetensors"))
    words = ["merge", adapter, "--output", tmp_path / "merged", "--ram", "600M", "--json"]
    run = subprocess.run(
        [sys.executable, "-m", "lplan", *map(str, words)],
        capture_output=True, text=True, check=True, env={**os.environ, "LPLAN_CACHE": str(tmp_path / "cache")},
    )  # fmt: skip
    document = json.loads(run.stdout)
    assert document["schema"] == "lplan.merge/1"
    assert document["plan"]["peak_bytes"] <= 600 * 2**20
    assert document["measured_bytes"] <= document["plan"]["peak_bytes"]
    assert base_bytes > 400 * 2**20
    assert document["agreement"]["mean"] < 0.03
