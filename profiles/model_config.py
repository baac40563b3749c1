"""config.json: read, and checked as far as that is possible without building the model."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from .errors import LplanError, UsageError
from .transformers_source import causal_lm_architectures

# Spellings among the configurations of transformers' causal language models; a class fills in its own default
# for what is missing, which would silently be another model.
_NEEDED: Mapping[str, tuple[str, ...]] = {
    "hidden_size": ("hidden_size", "n_embd", "n_embed", "d_model", "dim", "emb_dim"),
    "num_hidden_layers": (
        "num_hidden_layers",
        "n_layer",
        "n_layers",
        "num_layers",
        "decoder_layers",
        "layers_block_type",
        "hybrid_override_pattern",
    ),
    "vocab_size": ("vocab_size",),
}

_OTHER_HEADS = (
    "ForMaskedLM",
    "ForSequenceClassification",
    "ForTokenClassification",
    "ForQuestionAnswering",
    "ForMultipleChoice",
    "ForNextSentencePrediction",
    "ForPreTraining",
    "ForImageClassification",
)


def read_config(path: Path) -> dict[str, Any]:
    """The content of a config.json. Raises LplanError when it cannot be read or is no JSON object."""
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise LplanError(f"cannot read {path}: {error.strerror}") from error
    except json.JSONDecodeError as error:
        problem = f"{error.msg} at line {error.lineno} column {error.colno}"
        raise LplanError(f"{path} is not valid JSON: {problem}", hint="download it again") from error
    except (ValueError, RecursionError) as error:
        raise LplanError(f"{path} is not JSON text", hint="download it again") from error
    if not isinstance(config, dict):
        raise LplanError(f"{path} is not a JSON object", hint="it starts with { and names a model_type")
    return config


def check_config(config: Mapping[str, Any], where: str, *, trust_remote_code: bool = False) -> str:
    """The class that will be built from `config`, which was found at `where`.

    Raises LplanError for a configuration that lacks what a model needs, UsageError for one that is no causal
    language model or that needs code of its own while `trust_remote_code` is False.
    """
    model_type = config.get("model_type")
    if not isinstance(model_type, str) or not model_type:
        raise LplanError(
            f"{where} lacks model_type", hint="it names the architecture, such as llama or qwen2"
        )
    if config.get("is_encoder_decoder") is True:
        raise _not_causal(where, f"{model_type} is an encoder-decoder")
    architecture = _architecture(config, model_type, where, trust_remote_code=trust_remote_code)
    _check_sizes(config, where)
    return architecture


def config_dtype(config: Mapping[str, Any]) -> str:
    """The dtype that config.json names, in torch's spelling; float32 where it names none."""
    for part in (config, *_parts(config)):
        named = part.get("dtype") or part.get("torch_dtype")
        if isinstance(named, str):
            return named.removeprefix("torch.")
    return "float32"


def _architecture(config: Mapping[str, Any], model_type: str, where: str, *, trust_remote_code: bool) -> str:
    """The causal class of transformers, or the repository's own."""
    architectures = config.get("architectures")
    named = architectures[0] if isinstance(architectures, list) and architectures else ""
    known = causal_lm_architectures()
    has_own_code = isinstance(config.get("auto_map"), dict)
    if has_own_code and (trust_remote_code or model_type not in known):
        if not trust_remote_code:
            raise UsageError(
                f"{where} needs the model's own Python code ({model_type} is not part of transformers)",
                hint="read that code, then add --trust-remote-code",
            )
        return str(named or model_type)
    if model_type not in known:
        raise _not_causal(where, f"transformers knows no causal language model of type {model_type!r}")
    if str(named).endswith(_OTHER_HEADS):
        raise _not_causal(where, f"it is a {named}")
    return known[model_type]


def _check_sizes(config: Mapping[str, Any], where: str) -> None:
    parts = (config, *_parts(config))
    for name, spellings in _NEEDED.items():
        found = next((part[key] for part in parts for key in spellings if part.get(key) is not None), None)
        if found is None:
            raise LplanError(
                f"{where} lacks {name}", hint="copy the whole config.json that belongs to the weights"
            )
        sized = len(found) if isinstance(found, (list, str)) and name == "num_hidden_layers" else found
        if not isinstance(sized, int) or isinstance(sized, bool) or sized < 1:
            raise LplanError(f"{where}: {name} is {json.dumps(found)}, not a positive whole number")


def _parts(config: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Nested configurations, such as text_config of a model that also sees."""
    return (value for value in config.values() if isinstance(value, dict))


def _not_causal(where: str, why: str) -> UsageError:
    return UsageError(
        f"{where} is no causal language model: {why}", hint="lplan trains decoders: `lplan models` lists some"
    )
