"""config.json: what is accepted, and one line and a hint for what is not."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import pytest
from model_files import TINY, write_config
from transformers import AutoConfig
from transformers.integrations.ggml import GGUF_CONFIG_DEFAULTS_MAPPING, GGUF_CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from lplan.profiles import transformers_source
from lplan.profiles.errors import LplanError, UsageError
from lplan.profiles.find import find_model
from lplan.profiles.model_config import check_config, config_dtype

SIZES = {"hidden_size": 8, "num_hidden_layers": 2, "vocab_size": 16}
OWN_CODE = {"AutoModelForCausalLM": "modeling_custom.CustomForCausalLM"}


def test_tables_read_from_source_are_those_of_the_import() -> None:
    assert transformers_source.causal_lm_architectures() == dict(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)
    assert transformers_source.gguf_config_keys() == GGUF_CONFIG_MAPPING
    assert transformers_source.gguf_config_defaults() == GGUF_CONFIG_DEFAULTS_MAPPING


@pytest.mark.parametrize(
    "model_type",
    [
        "llama",
        "gpt2",
        "bloom",
        "falcon",
        "mpt",
        "xlm",
        "ctrl",
        "mamba",
        "dbrx",
        "nemotron_h",
        "gemma3",
        "blt",
    ],
)
def test_every_spelling_of_sizes_is_understood(model_type: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        config = json.loads(AutoConfig.for_model(model_type).to_json_string())
    assert check_config(config, "config.json") == MODEL_FOR_CAUSAL_LM_MAPPING_NAMES[model_type]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not valid JSON"),
        ('{"model_type": "llama",', "not valid JSON: .* at line 1 column"),
        ("[1, 2]", "not a JSON object"),
        ('"llama"', "not a JSON object"),
        ("{}", "lacks model_type"),
        ('{"model_type": null}', "lacks model_type"),
        ('{"model_type": 7}', "lacks model_type"),
        ("[" * 100_000, "not JSON text"),
    ],
)
def test_a_broken_file(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(LplanError, match=message) as caught:
        find_model(str(write_config(tmp_path, text)))
    assert caught.value.exit_code == 1
    assert caught.value.hint
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_text(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes(b"\x80\x02}q\x00.")
    with pytest.raises(LplanError, match="is not JSON text"):
        find_model(str(tmp_path))


@pytest.mark.parametrize("missing", ["hidden_size", "num_hidden_layers", "vocab_size"])
def test_a_missing_size_is_not_replaced_by_the_class_default(missing: str) -> None:
    config = {name: value for name, value in TINY.items() if name != missing}
    with pytest.raises(LplanError, match=f"lacks {missing}"):
        check_config(config, "config.json")


@pytest.mark.parametrize("value", [0, -4, "4096", 1.5, True, [], {}])
def test_a_size_that_is_no_positive_number(value: Any) -> None:
    with pytest.raises(LplanError, match=r"hidden_size is .*, not a positive whole number"):
        check_config({**TINY, "hidden_size": value}, "config.json")


@pytest.mark.parametrize(
    ("config", "why"),
    [
        ({"model_type": "t5", "is_encoder_decoder": True}, "t5 is an encoder-decoder"),
        ({"model_type": "bart", "is_encoder_decoder": True}, "bart is an encoder-decoder"),
        ({"model_type": "vit"}, "no causal language model of type 'vit'"),
        ({"model_type": "llmama"}, "no causal language model of type 'llmama'"),
        ({"model_type": "bert", "architectures": ["BertForMaskedLM"]}, "it is a BertForMaskedLM"),
        ({"model_type": "llama", "architectures": ["LlamaForSequenceClassification"]}, "it is a LlamaForSeq"),
    ],
)
def test_no_causal_language_model(config: dict[str, Any], why: str) -> None:
    with pytest.raises(UsageError, match=why):
        check_config({**SIZES, **config}, "config.json")


def test_own_code_needs_trust() -> None:
    config = {**SIZES, "model_type": "custom", "architectures": ["CustomForCausalLM"], "auto_map": OWN_CODE}
    with pytest.raises(UsageError, match="own Python code") as caught:
        check_config(config, "config.json")
    assert "--trust-remote-code" in (caught.value.hint or "")
    assert check_config(config, "config.json", trust_remote_code=True) == "CustomForCausalLM"


def test_own_code_is_not_needed_where_transformers_has_the_class() -> None:
    config = {**SIZES, "model_type": "phi3", "auto_map": OWN_CODE}
    assert check_config(config, "config.json") == "Phi3ForCausalLM"


def test_trust_is_recorded_only_where_there_is_code(tmp_path: Path) -> None:
    plain = find_model(str(write_config(tmp_path / "plain")), trust_remote_code=True)
    custom = write_config(tmp_path / "custom", auto_map=OWN_CODE)
    (custom / "modeling_custom.py").write_text("raise SystemExit('this ran')")
    assert not plain.trust_remote_code
    assert find_model(str(custom), trust_remote_code=True).trust_remote_code


@pytest.mark.parametrize(
    ("config", "dtype"),
    [
        ({"dtype": "bfloat16"}, "bfloat16"),
        ({"torch_dtype": "float16"}, "float16"),
        ({"torch_dtype": "torch.float16"}, "float16"),
        ({"text_config": {"dtype": "bfloat16"}}, "bfloat16"),
        ({}, "float32"),
        ({"dtype": None}, "float32"),
    ],
)
def test_dtype_of_a_configuration(config: dict[str, Any], dtype: str) -> None:
    assert config_dtype(config) == dtype


def test_another_transformers_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(transformers_source, "_package", lambda: tmp_path)
    transformers_source.causal_lm_architectures.cache_clear()
    with pytest.raises(LplanError, match="cannot find MODEL_FOR_CAUSAL_LM_MAPPING_NAMES"):
        transformers_source.causal_lm_architectures()
