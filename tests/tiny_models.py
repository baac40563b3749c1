"""Small models of many architectures, and the step that is traced run for real on them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lplan.benchmarks.side_by_side import VOCABULARY, live_peaks, make_model, real_peaks, traced_peaks

__all__ = [
    "TINY_MODELS",
    "VOCABULARY",
    "live_peaks",
    "make_model",
    "real_peaks",
    "traced_peaks",
    "with_layers",
]

_COMMON = {
    "hidden_size": 64, "intermediate_size": 160, "num_hidden_layers": 2, "num_attention_heads": 8,
    "num_key_value_heads": 2, "vocab_size": VOCABULARY, "max_position_embeddings": 2048, "pad_token_id": 0,
}  # fmt: skip
_WITHOUT_GROUPS = {**_COMMON, "num_key_value_heads": 8}


def _config(model_type: str, common: Mapping[str, Any] = _COMMON, **own: Any) -> dict[str, Any]:
    return {"model_type": model_type, **common, **own}


TINY_MODELS: Mapping[str, dict[str, Any]] = {
    config["model_type"]: config
    for config in (
        _config("llama"),
        _config("qwen2"),
        _config("qwen3", head_dim=16),
        _config("mistral", sliding_window=64),
        _config("gemma2", head_dim=16, sliding_window=64),
        _config("gemma3_text", head_dim=16, sliding_window=64),
        _config("olmo2"),
        _config("granite"),
        _config("phi3"),
        _config("stablelm"),
        _config("phi", _WITHOUT_GROUPS),
        _config("gpt_neox"),
        _config("gpt2", {"n_embd": 64, "n_layer": 2, "n_head": 8, "vocab_size": VOCABULARY}),
        _config("bloom", {"hidden_size": 64, "n_layer": 2, "n_head": 8, "vocab_size": VOCABULARY}),
        _config(
            "falcon", {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 8, "vocab_size": 300}
        ),
        _config("opt", _COMMON, ffn_dim=160, word_embed_proj_dim=64),
        _config("mixtral", num_local_experts=4, num_experts_per_tok=2),
    )
}
"""Two layers of 64 wide; windows of 64 tokens where the architecture has them."""


def with_layers(name: str, layers: int, **changes: Any) -> dict[str, Any]:
    """One of TINY_MODELS at another depth."""
    config = TINY_MODELS[name]
    depth = "n_layer" if "n_layer" in config else "num_hidden_layers"
    return {**config, depth: layers, **changes}
