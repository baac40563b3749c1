"""The catalogue against what the models' publishers state, and against the classes of transformers."""

from __future__ import annotations

import datetime
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from lplan.profiles.catalogue import catalogue, in_catalogue, profile_of_row

ROW: Mapping[str, Any] = {
    "hub": "org/model",
    "architecture": "LlamaForCausalLM",
    "parameters": 1000,
    "counted": "hub metadata",
    "dtype": "float32",
    "format": "safetensors",
    "source": "https://huggingface.co/org/model/blob/main/config.json",
    "checked": datetime.date(2026, 11, 23),
    "config": {"model_type": "llama", "hidden_size": 8},
}


@pytest.mark.parametrize("alias", catalogue())
def test_the_built_model_has_the_published_parameters(alias: str) -> None:
    profile = catalogue()[alias]
    config = AutoConfig.for_model(**profile.config)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    assert sum(parameter.numel() for parameter in model.parameters()) == profile.parameters
    assert type(model).__name__ == profile.architecture
    assert config.model_type == profile.model_type


@pytest.mark.parametrize(
    ("alias", "file_bytes"),
    [
        # Sizes of the safetensors files as the hub lists them.
        ("tinyllama", 2_200_119_864),
        ("llama-3.2-1b", 2_471_645_608),
        ("smollm2-360m", 723_674_912),
        ("smollm2-1.7b", 3_422_777_952),
        ("qwen2.5-1.5b", 3_087_467_144),
        ("qwen2.5-3b", 6_171_926_992),
        ("qwen2.5-7b", 15_231_271_888),
        ("olmo-2-1b", 5_939_687_552),
        ("pythia-160m", 374_998_696),
        ("gpt2", 548_105_171),
    ],
)
def test_size_on_disk_is_that_of_the_files(alias: str, file_bytes: int) -> None:
    # The file's header, some tens of KiB, is not counted.
    assert catalogue()[alias].weights.total_bytes == pytest.approx(file_bytes, rel=1e-4)


def test_tied_heads_that_are_stored_twice_count_on_disk_only() -> None:
    profile = catalogue()["qwen3-0.6b"]
    assert profile.parameters == 751_632_384 - 151_936 * 1024
    assert profile.weights.total_bytes == 2 * 751_632_384


def test_gpt_oss_is_packed_on_disk_and_computes_in_bfloat16() -> None:
    profile = catalogue()["gpt-oss-20b"]
    assert (profile.weights.dtype, profile.weights.total_bytes) == ("mxfp4", 13_761_264_768)
    assert profile.config["dtype"] == "bfloat16"


@pytest.mark.parametrize(
    "alias",
    [
        "tinyllama",
        "llama-2-7b",
        "llama-2-13b",
        "llama-3.1-8b",
        "llama-3.2-1b",
        "llama-3.2-3b",
        "mistral-7b",
        "mixtral-8x7b",
        "qwen2.5-0.5b",
        "qwen2.5-1.5b",
        "qwen2.5-3b",
        "qwen2.5-7b",
        "qwen2.5-14b",
        "qwen3-0.6b",
        "qwen3-1.7b",
        "qwen3-4b",
        "qwen3-8b",
        "smollm2-135m",
        "smollm2-360m",
        "smollm2-1.7b",
        "smollm3-3b",
        "gemma-2-2b",
        "gemma-2-9b",
        "gemma-3-270m",
        "gemma-3-1b",
        "phi-2",
        "phi-3-mini",
        "phi-4",
        "pythia-160m",
        "pythia-1b",
        "gpt2",
        "opt-125m",
        "opt-1.3b",
        "opt-6.7b",
        "bloom-560m",
        "bloom-7b1",
        "falcon-7b",
        "stablelm-2-1.6b",
        "olmo-2-1b",
        "olmo-2-7b",
        "granite-3.3-2b",
        "deepseek-r1-distill-qwen-1.5b",
        "deepseek-r1-distill-qwen-7b",
        "deepseek-r1-distill-llama-8b",
        "gpt-oss-20b",
    ],
)
def test_the_popular_models_are_there(alias: str) -> None:
    assert catalogue()[alias].alias == alias


def test_every_row_is_sourced_and_unique() -> None:
    profiles = catalogue().values()
    assert len({profile.id.lower() for profile in profiles}) == len(profiles) >= 42
    for profile in profiles:
        assert profile.source == f"https://huggingface.co/{profile.id}/blob/main/config.json"
        assert datetime.date.fromisoformat(profile.checked or "") >= datetime.date(2026, 11, 23)
        assert profile.location is None


def test_a_complete_row_becomes_a_profile() -> None:
    profile = profile_of_row("model", ROW)
    assert profile.config["architectures"] == ["LlamaForCausalLM"]
    assert profile.weights.total_bytes == 4000
    assert profile.checked == "2026-11-23"


@pytest.mark.parametrize("key", ROW)
def test_a_row_without_a_key_is_refused(key: str) -> None:
    with pytest.raises(ValueError, match=f"model lacks {key}"):
        profile_of_row("model", {name: value for name, value in ROW.items() if name != key})


@pytest.mark.parametrize(
    ("alias", "change", "message"),
    [
        ("model", {"source": ""}, "lacks source"),
        ("model", {"checked": "yesterday"}, "checked is not a date"),
        ("model", {"sauce": "x"}, "unknown keys sauce"),
        ("Model", {}, "not lower-case"),
        ("model", {"config": {"hidden_size": 8}}, "config lacks model_type"),
        ("model", {"dtype": "mxfp4"}, "lacks stored_bytes"),
    ],
)
def test_a_wrong_row_is_refused(alias: str, change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        profile_of_row(alias, {**ROW, **change})


def test_null_in_config_json_overrides_the_class_default() -> None:
    assert catalogue()["mistral-7b"].config.get("sliding_window", "default") == "default"
    assert catalogue()["mistral-7b-v0.3"].config["sliding_window"] is None
    assert AutoConfig.for_model(**catalogue()["mistral-7b-v0.3"].config).sliding_window is None


@pytest.mark.parametrize("name", ["tinyllama", "TinyLlama", "tinyllama/tinyllama-1.1b-chat-v1.0"])
def test_alias_and_hub_id_in_any_case(name: str) -> None:
    found = in_catalogue(name)
    assert found is not None
    assert found.alias == "tinyllama"


def test_what_is_not_in_the_catalogue() -> None:
    assert in_catalogue("tinyllama-2") is None


def test_a_known_model_is_found_without_heavy_imports() -> None:
    code = (
        "import sys; from lplan.profiles.find import find_model; find_model('tinyllama');"
        "print([name for name in ('torch', 'transformers', 'numpy', 'gguf', 'huggingface_hub.file_download')"
        " if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
