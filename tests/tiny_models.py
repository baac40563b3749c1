"""Small models of many architectures, and the step that is traced run for real on them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from lplan.planner.polynomial import Shape
from lplan.planner.recipe import Recipe
from lplan.planner.tracing.device import StandIn, on_device, prepare_device
from lplan.planner.tracing.model import build, make_config, wrap
from lplan.planner.tracing.step import TracedStep
from lplan.planner.tracing.tracker import StorageTracker

VOCABULARY = 300
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


def make_model(config: Mapping[str, Any], recipe: Recipe, device: str = "cpu") -> nn.Module:
    """The wrapped model with weights of its own initialisation."""
    with on_device(device):
        return wrap(build(make_config(config), recipe), recipe)


class _WatchingTracker(StorageTracker):
    """Lets the tensors answer for themselves."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten._local_scalar_dense.default:
            return func(*args)
        return super().__torch_dispatch__(func, types, args, kwargs)


class _RealStep(TracedStep):
    """The traced step with tokens: padded rows where the recipe says so, loss on as many as the shape says."""

    def _batch(self) -> dict[str, Tensor]:
        batch = super()._batch()
        batch["input_ids"].random_(1, VOCABULARY)
        if "attention_mask" in batch:
            batch["attention_mask"].fill_(1)[0, -5:] = 0
        if "positions" in batch:
            torch.arange(self.shape.supervised, out=batch["positions"])
        return batch


def real_peaks(config: Mapping[str, Any], recipe: Recipe, shape: Shape) -> dict[str, int]:
    """Peak bytes of live storages in every phase of a step that really computes."""
    torch.manual_seed(0)
    tracker = _WatchingTracker(mask_is_full=recipe.padding == "none")
    _RealStep(make_model(config, recipe), recipe, shape, tracker).run()
    return live_peaks(tracker)


def traced_peaks(
    config: Mapping[str, Any], recipe: Recipe, shape: Shape, stand_in: StandIn | None = None
) -> dict[str, int]:
    """The same of a step that only pretends to."""
    tracker = StorageTracker(mask_is_full=recipe.padding == "none")
    model = make_model(config, recipe, "meta")
    with prepare_device(model, stand_in or ("fake" if recipe.precision == "bf16-amp" else "meta")):
        TracedStep(model, recipe, shape, tracker).run()
    return live_peaks(tracker)


def live_peaks(tracker: StorageTracker) -> dict[str, int]:
    """Peak bytes of live storages by phase of a run."""
    live, peaks = 0, {"first step": 0, "steady step": 0, "evaluation": 0}
    for segment in tracker.segments:
        for event in segment.events:
            size_bytes = tracker.storages[abs(event) - 1].size_bytes
            live += size_bytes if event > 0 else -size_bytes
            if segment.phase in peaks:
                peaks[segment.phase] = max(peaks[segment.phase], live)
    return peaks
