"""A small configuration of every model type that AutoModelForCausalLM knows."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from .side_by_side import VOCABULARY

LAYERS = 2
MOST_LAYERS = 8
"""As many as a stack needs at least to show all its kinds of layers, but no more than these."""
DEEPER = 6
_HEADS = 4
_LAYER_FIELDS = (
    "num_hidden_layers", "num_layers", "n_layer", "n_layers", "encoder_layers", "decoder_layers", "num_encoder_layers",
    "num_decoder_layers", "num_blocks", "num_layers_per_stack",
)  # fmt: skip
_TOKENS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}

_KEY_VALUE_HEADS = r"(swa_)?(num|n)_(key_value|kv)_heads"
_RULES: tuple[tuple[str, int], ...] = (
    (r".*vocab_size(_per_layer_input)?", VOCABULARY),
    (r"hidden_size|d_model|n_embd|emb_dim|embedding_dim|embedding_size|lru_width|word_embed_proj_dim", 64),
    (r"(input|output)_embedding_size|attention_hidden_size|ple_embed_dim|router_hidden_size", 64),
    (r".*(intermediate|feed_forward|ffn|ffn_hidden)_size(_mlp)?|.*ffn_dim|dff|dim_ff|d_inner", 96),
    (_KEY_VALUE_HEADS, 2),
    (r"(.*_)?(num|n|attention|num_attention|encoder_attention|decoder_attention)_heads?|index_n_heads", _HEADS),
    (r"qk_(nope|rope)_head_dim|rotary_dim|mamba_head_dim", 8),
    (r"(.*_)?(head_dim|headdim|d_head|head_size)|dim_head|kv_channels|linear_(key|value)_head_dim", 16),
    (r"num_experts|n_routed_experts|num_local_experts|moe_num_experts|zero_expert_num", 4),
    (r"num_experts_per_tok(en)?|moe_topk|moe_k|top_k_experts", 2),
    (r".*_rank|hc_lowrank", 16),
    (r"n_group|topk_group|num_expert_group", 1),
    (r"sliding_window(_size)?|attention_window_size|window_size|local_attention|keep_window_size", 32),
    (r"(mamba_)?chunk_size|attention_chunk_size|block_size", 16),
    (r"index_topk", 8),
    (r"first_k_dense_replace|num_dense_layers", 1),
    (r"hidden_size_per_layer_input", 16),
    (r"max_position_embeddings|n_positions|n_ctx|max_seq_len|model_max_length|context_length|rel_extent", 1024),
    (r"(mamba_)?d_state|(ssm_)?state_size", 16),
)  # fmt: skip

_MAMBA_HEADS = {"mamba_n_heads": 8, "mamba_d_head": 16}
_SHARED_CACHES = {"num_hidden_layers": 10, "num_kv_shared_layers": 5}
_INDEXER = {
    "indexer_n_heads": 4, "indexer_kv_heads": 1, "indexer_head_dim": 16, "indexer_budget": 16,
    "indexer_compress_ratio": 4, "ngram_vocab_size_base": VOCABULARY,
}  # fmt: skip
_VISION = {
    "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": _HEADS,
    "image_size": 32, "patch_size": 16, "crop_size": 32,
}  # fmt: skip
_AUDIO = {
    "hidden_size": 64, "intermediate_size": 96, "num_blocks": 2, "num_attention_heads": _HEADS,
    "ext_pw_out_channel": 64, "nemo_conv_channels": 16,
}  # fmt: skip
_BLT_PART = {
    "hidden_size": 64, "num_attention_heads": _HEADS, "num_key_value_heads": _HEADS, "intermediate_size": 96,
    "head_dim": 16, "hidden_size_global": 128, "vocab_size": VOCABULARY,
}  # fmt: skip

_OVERRIDES: Mapping[str, Mapping[str, Any]] = {
    "bamba": {**_MAMBA_HEADS, "attn_layer_indices": [1]},
    "cohere_compass_text": {"rope_parameters": {"full_attention": {"rope_type": "default", "rope_theta": 1e4}}},
    "blt": {
        "vocab_size": VOCABULARY, "encoder_hash_byte_group_vocab": VOCABULARY, "local_attention_window_len": 32,
        "patcher_config": {**_BLT_PART, "num_hidden_layers": LAYERS},
        "encoder_config": {**_BLT_PART, "num_hidden_layers": 1},
        "decoder_config": {**_BLT_PART, "num_hidden_layers": LAYERS},
        "global_config": {**_BLT_PART, "hidden_size": 128, "head_dim": 32, "num_hidden_layers": LAYERS},
    },
    "dbrx": {
        "attn_config": {"kv_n_heads": 2, "clip_qkv": 8.0, "rope_theta": 1e4},
        "ffn_config": {"hidden_size": 64, "ffn_hidden_size": 96, "moe_num_experts": 4, "moe_top_k": 2},
    },
    "deepseek_v2": {"n_group": 1, "topk_group": 1, "num_experts_per_tok": 2},
    "dots1": {"n_routed_experts": 4, "n_shared_experts": 1, "num_experts_per_tok": 2},
    "dots3_note": {
        "num_key_value_heads": _HEADS, "vision_config": {"adapter_out_dim": 64}, "audio_config": {"adapter_out_dim": 64}
    },
    "dots3_note_text": {"num_key_value_heads": _HEADS},
    "falcon_h1": {**_MAMBA_HEADS, "mamba_d_ssm": 128},
    "gemma3n": _SHARED_CACHES,
    "gemma3n_text": _SHARED_CACHES,
    "gemma4_assistant": {
        "text_config": {"model_type": "gemma4_text", "hidden_size_per_layer_input": 0, "vocab_size_per_layer_input": 0}
    },
    "git": {"vision_config": _VISION},
    "granitemoehybrid": _MAMBA_HEADS,
    "hunyuan_v1_dense": {"head_dim": 16},
    "hunyuan_v1_moe": {"head_dim": 16},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"]},
    "mamba2": {"num_heads": 8},
    "ministral": {"head_dim": 16},
    "nemotron": {"num_key_value_heads": 2},
    "nemotron_h": {"n_groups": 2},
    "phi4_multimodal": {"vision_config": _VISION, "audio_config": _AUDIO},
    "qwen4_exp": _INDEXER,
    "qwen4_exp_text": _INDEXER,
    "reformer": {
        "is_decoder": True, "axial_pos_shape": [8, 6], "axial_pos_embds_dim": [16, 48],
        "local_attn_chunk_length": 16, "lsh_attn_chunk_length": 16,
    },
    "roc_bert": {
        "pronunciation_embed_dim": 16, "shape_embed_dim": 16, "pronunciation_vocab_size": 50, "shape_vocab_size": 50,
    },
    "xmod": {"default_language": "en_XX"},
    "zamba2": {"attention_hidden_size": 128, "attention_head_dim": 32},
    "zamba": {
        "attention_hidden_size": 128, "attention_head_dim": 32,
        "num_hidden_layers": 5, "layers_block_type": ["linear_attention", "hybrid"] * 2 + ["linear_attention"],
    },
}  # fmt: skip
"""Fields of types whose shrunk defaults do not build."""


def small_config(model_type: str, *, deeper: bool = False) -> dict[str, Any]:
    """config.json's content of a small model of `model_type`, with as few layers as show all its kinds, or more."""
    from transformers import AutoConfig

    own = _OVERRIDES.get(model_type, {})
    default = AutoConfig.for_model(model_type, **_to_build(own))
    text = text_part(default)
    layers = own.get("num_hidden_layers") or _enough(text)
    if deeper:
        layers = DEEPER if layers == LAYERS else 4 * layers
    beside = {
        name: value for name, value in own.items() if text is not default and name in default.sub_configs
    }
    values = _shrunk(text, layers, {name: value for name, value in own.items() if name not in beside})
    if text is default:
        return {**values, "model_type": model_type}
    name = next(key for key, value in vars(default).items() if value is text)
    return {"model_type": model_type, **beside, name: {**values, "model_type": text.model_type}}


def text_part(config: Any) -> Any:
    """The part of a configuration that describes the causal language model."""
    try:
        return config.get_text_config()
    except ValueError:  # two of them: Musicgen's encoder of descriptions, and its decoder
        return config.decoder


def _to_build(own: Mapping[str, Any]) -> dict[str, Any]:
    """What a type whose defaults contradict each other needs for a default configuration."""
    return {name: own[name] for name in ("text_config",) if name in own}


def _shrunk(text: Any, layers: int, own: Mapping[str, Any]) -> dict[str, Any]:
    was = getattr(text, "num_hidden_layers", LAYERS)
    values: dict[str, Any] = {}
    for name, value in vars(text).items():
        if name == "num_kv_shared_layers" and value == was:
            values[name] = layers
        elif isinstance(value, int) and not isinstance(value, bool) and not name.startswith("_"):
            values[name] = _size(name, value, layers)
            if re.fullmatch(_KEY_VALUE_HEADS, name) and value == vars(text).get("num_attention_heads"):
                values[name] = _HEADS
            if name == "head_dim" and value == vars(text).get("qk_rope_head_dim"):
                values[name] = _size("qk_rope_head_dim", value, layers)
        elif _per_layer(value, was):
            values[name] = [_size(name, item, layers) for item in _cycled(value, layers)]
    values |= {
        name: _cycled(value, layers) if name in ("layer_types", "layers_block_type") else value
        for name, value in own.items()
        if name not in _LAYER_FIELDS
    }
    return values


def _size(name: str, value: Any, layers: int) -> Any:
    if not isinstance(value, int) or isinstance(value, bool):
        return value
    if name in _LAYER_FIELDS:
        return layers
    if name.endswith("_token_id"):
        return _TOKENS.get(name, min(value, VOCABULARY - 1))
    for pattern, small in _RULES:
        if re.fullmatch(pattern, name):
            return min(value, small)
    return value


def _enough(text: Any) -> int:
    """Layers until every kind has occurred."""
    layers = getattr(text, "num_hidden_layers", 0)
    columns = [v for v in vars(text).values() if _per_layer(v, layers)]
    needed = [max(column.index(kind) for kind in column) + 1 for column in columns]
    return min(max([LAYERS, *needed]), MOST_LAYERS)


def _per_layer(value: Any, layers: int) -> bool:
    return isinstance(value, (list, tuple)) and len(value) == layers


def _cycled(values: Sequence[Any], count: int) -> list[Any]:
    return [values[index % len(values)] for index in range(count)]
