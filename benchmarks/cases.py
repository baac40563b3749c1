"""The runs of the benchmarks of memory and time: model shapes and recipes that differ in everything that matters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lplan.planner.recipe import ALL_LINEAR, Recipe


def llama(layers: int) -> dict[str, Any]:
    """TinyLlama's widths with any number of layers."""
    return {
        "model_type": "llama", "hidden_size": 2048, "intermediate_size": 5632, "num_hidden_layers": layers,
        "num_attention_heads": 32, "num_key_value_heads": 4, "vocab_size": 32000,
        "max_position_embeddings": 2048, "tie_word_embeddings": False,
    }  # fmt: skip


SMOLLM2 = {
    "model_type": "llama", "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30,
    "num_attention_heads": 9, "num_key_value_heads": 3, "vocab_size": 49152,
    "max_position_embeddings": 8192, "tie_word_embeddings": True,
}  # fmt: skip
QWEN = {
    "model_type": "qwen2", "hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24,
    "num_attention_heads": 14, "num_key_value_heads": 2, "vocab_size": 151936,
    "max_position_embeddings": 32768, "tie_word_embeddings": True,
}  # fmt: skip
GPT2 = {
    "model_type": "gpt2",
    "n_embd": 768,
    "n_layer": 12,
    "n_head": 12,
    "vocab_size": 50257,
    "n_positions": 1024,
}
PYTHIA = {
    "model_type": "gpt_neox", "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12,
    "num_attention_heads": 12, "vocab_size": 50304, "max_position_embeddings": 2048, "tie_word_embeddings": False,
    "rope_parameters": {"rope_type": "default", "rope_theta": 10000, "partial_rotary_factor": 0.25},
}  # fmt: skip
GEMMA = {
    "model_type": "gemma3_text", "hidden_size": 640, "intermediate_size": 2048, "num_hidden_layers": 18,
    "num_attention_heads": 4, "num_key_value_heads": 1, "head_dim": 256, "vocab_size": 262144,
    "max_position_embeddings": 32768, "sliding_window": 512, "tie_word_embeddings": True,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Case:
    """One run. `weights`: a folder name below the benchmark's cache for real files; None for weights in memory."""

    name: str
    config: Mapping[str, Any]
    recipe: Recipe
    weights: str | None = None
    fitted: bool = False
    """Whether runtime.toml's constants were fitted on it; the others are held out."""


def _random(**knobs: Any) -> Recipe:
    length = knobs.get("seq_len", 512)
    multiple = 1 if knobs.get("padding") == "none" else length
    return Recipe(
        **{
            "init": "random",
            "accumulation": 1,
            "supervised_len": length,
            "pad_to_multiple_of": multiple,
            **knobs,
        }
    )


CASES = (
    Case("llama-2 4x512", llama(2), _random(batch_size=4, seq_len=512, padding="none"), fitted=True),
    Case("llama-2 1x64 r4", llama(2), _random(batch_size=1, seq_len=64, rank=4, padding="none"), fitted=True),
    Case("llama-2 4x512 fp32", llama(2), _random(batch_size=4, seq_len=512, precision="fp32", padding="none"), fitted=True),
    Case("llama-4 4x512 ckpt padded", llama(4), _random(batch_size=4, seq_len=512, checkpointing="full", accumulation=2), fitted=True),
    Case("llama-4 8x128 all-linear r64", llama(4), _random(batch_size=8, seq_len=128, rank=64, target_modules=ALL_LINEAR, dropout=0.0)),
    Case("llama-2 1x1024 fp32 ckpt", llama(2), _random(batch_size=1, seq_len=1024, precision="fp32", checkpointing="full", padding="none")),
    Case("llama-2 2x256 full fp32", llama(2), _random(batch_size=2, seq_len=256, method="full", precision="fp32", padding="none")),
    Case("llama-22 1x256 ckpt", llama(22), _random(batch_size=1, seq_len=256, checkpointing="full", padding="none")),
    Case("llama-22 2x128", llama(22), _random(batch_size=2, seq_len=128, accumulation=2)),
    Case("llama-4 mapped 2x256", llama(4), _random(batch_size=2, seq_len=256, init="pretrained"), weights="llama-4-bf16"),
    Case("llama-4 converted 1x128 fp32", llama(4), _random(batch_size=1, seq_len=128, init="pretrained", precision="fp32"), weights="llama-4-bf16"),
    Case("qwen 1x512 ckpt", QWEN, _random(batch_size=1, seq_len=512, checkpointing="full", padding="none"), fitted=True),
    Case("qwen 2x128 supervised", QWEN, _random(batch_size=2, seq_len=128, loss="supervised", supervised_len=32)),
    Case("qwen 2x512 chunked", QWEN, _random(batch_size=2, seq_len=512, loss="chunked", checkpointing="full")),
    Case("smollm2 real 8x128", SMOLLM2, _random(batch_size=8, seq_len=128, init="pretrained"), weights="smollm2-135m-instruct"),
    Case("smollm2 real 2x256 uncast", SMOLLM2, _random(batch_size=2, seq_len=256, init="pretrained", input_casting=False, loss="supervised", supervised_len=64), weights="smollm2-135m-instruct"),
    Case("smollm2 real 4x128 base", SMOLLM2, _random(batch_size=4, seq_len=128, init="pretrained", adapter_dtype="base", optimizer="adamw-fused"), weights="smollm2-135m-instruct", fitted=True),
    Case("smollm2 4x256 amp", SMOLLM2, _random(batch_size=4, seq_len=256, precision="bf16-amp", checkpointing="full")),
    Case("gpt2 4x256", GPT2, _random(batch_size=4, seq_len=256, padding="none", dropout=0.0), fitted=True),
    Case("gpt2 2x512 full fp32 adamw-fused", GPT2, _random(batch_size=2, seq_len=512, method="full", precision="fp32", optimizer="adamw-fused")),
    Case("pythia 8x32 fp32", PYTHIA, _random(batch_size=8, seq_len=32, precision="fp32", rank=16)),
    Case("pythia 2x1024", PYTHIA, _random(batch_size=2, seq_len=1024, rank=16, padding="none")),
    Case("gemma 1x256", GEMMA, _random(batch_size=1, seq_len=256, padding="none"), fitted=True),
    Case("gemma 2x512 ckpt all-linear", GEMMA, _random(batch_size=2, seq_len=512, checkpointing="full", target_modules=ALL_LINEAR)),
)  # fmt: skip
TIMED = (
    Case("smollm2 4x128", SMOLLM2, _random(batch_size=4, seq_len=128)),
    Case("smollm2 1x512 uncast", SMOLLM2, _random(batch_size=1, seq_len=512, padding="none", input_casting=False)),
    Case("smollm2 8x64 ckpt", SMOLLM2, _random(batch_size=8, seq_len=64, checkpointing="full")),
    Case("smollm2 2x256 supervised", SMOLLM2, _random(batch_size=2, seq_len=256, loss="supervised", supervised_len=64, input_casting=False)),
    Case("smollm2 4x128 chunked default", SMOLLM2, _random(batch_size=4, seq_len=128, loss="chunked", allocator="default")),
    Case("smollm2 2x64 twice fp32", SMOLLM2, _random(batch_size=2, seq_len=64, precision="fp32", accumulation=2)),
    Case("gpt2 4x128", GPT2, _random(batch_size=4, seq_len=128)),
    Case("gpt2 4x128 default", GPT2, _random(batch_size=4, seq_len=128, allocator="default")),
    Case("gpt2 2x256 fp32", GPT2, _random(batch_size=2, seq_len=256, precision="fp32", padding="none")),
    Case("gpt2 1x1024 every-2", GPT2, _random(batch_size=1, seq_len=1024, checkpointing="every-2", input_casting=False)),
    Case("gpt2 2x128 full fp32", GPT2, _random(batch_size=2, seq_len=128, method="full", precision="fp32", optimizer="adamw-fused")),
    Case("pythia 8x32 fp32", PYTHIA, _random(batch_size=8, seq_len=32, precision="fp32", rank=16)),
    Case("pythia 1x1024", PYTHIA, _random(batch_size=1, seq_len=1024, padding="none")),
    Case("pythia 2x512 ckpt supervised", PYTHIA, _random(batch_size=2, seq_len=512, checkpointing="full", loss="supervised", supervised_len=128, input_casting=False)),
    Case("pythia 8x64 all-linear r64", PYTHIA, _random(batch_size=8, seq_len=64, rank=64, target_modules=ALL_LINEAR)),
    Case("llama-2 4x128", llama(2), _random(batch_size=4, seq_len=128)),
    Case("llama-2 1x64 r4", llama(2), _random(batch_size=1, seq_len=64, rank=4, padding="none")),
    Case("llama-2 2x256 fp32 ckpt", llama(2), _random(batch_size=2, seq_len=256, precision="fp32", checkpointing="full")),
    Case("llama-2 4x256 supervised default", llama(2), _random(batch_size=4, seq_len=256, loss="supervised", supervised_len=64, allocator="default", input_casting=False)),
    Case("llama-2 2x128 full", llama(2), _random(batch_size=2, seq_len=128, method="full", accumulation=2)),
)  # fmt: skip
"""Of four models, in seconds a step: benchmarks/step_time.py."""
FAST = ("llama-2 1x64 r4", "smollm2 real 4x128 base", "pythia 8x32 fp32", "gpt2 4x256")


def _small(config: Mapping[str, Any], layers: int) -> dict[str, Any]:
    """The model with fewer layers: what the heap does needs many tensors, not many seconds."""
    return {**config, "n_layer" if "n_layer" in config else "num_hidden_layers": layers}


_FP32: dict[str, Any] = {"precision": "fp32", "allocator": "default"}
_DEMO: dict[str, Any] = {
    **_FP32, "rank": 16, "alpha": 32, "dropout": 0.0, "target_modules": ALL_LINEAR, "optimizer": "adamw-fused",
    "loss": "supervised", "supervised_len": 8,
}  # fmt: skip
"""As `make demo` trains SmolLM2 where there are no bf16 instructions."""
_VARIED: dict[str, Any] = {"pad_to_multiple_of": 16, "length_buckets": 4}
VARIED = "varied"
"""In the name of a case whose sequences differ in length, as real ones do."""
ON_THE_HEAP = (
    Case("smollm2-6 4x64 demo fp32", _small(SMOLLM2, 6), _random(batch_size=4, seq_len=64, accumulation=2, **_DEMO)),
    Case("smollm2-6 4x64 demo fp32 varied", _small(SMOLLM2, 6), _random(batch_size=4, seq_len=64, accumulation=2, **_DEMO, **_VARIED)),
    Case("smollm2-6 4x64 demo fp32 once", _small(SMOLLM2, 6), _random(batch_size=4, seq_len=64, **_DEMO)),
    Case("smollm2-6 4x64 fp32 attention", _small(SMOLLM2, 6), _random(batch_size=4, seq_len=64, loss="supervised", supervised_len=8, dropout=0.0, **_FP32)),
    Case("smollm2-12 4x128 chunked fp32", _small(SMOLLM2, 12), _random(batch_size=4, seq_len=128, loss="chunked", **_FP32)),
    Case("smollm2-12 2x256 ckpt fp32", _small(SMOLLM2, 12), _random(batch_size=2, seq_len=256, checkpointing="full", **_FP32)),
    Case("smollm2 4x64 demo fp32", SMOLLM2, _random(batch_size=4, seq_len=64, accumulation=2, **_DEMO)),
    Case("llama-2 4x256 supervised fp32", llama(2), _random(batch_size=4, seq_len=256, loss="supervised", supervised_len=64, **_FP32)),
    Case("llama-2 4x512 fp32", llama(2), _random(batch_size=4, seq_len=512, padding="none", **_FP32)),
    Case("llama-4 1x128 fp32", llama(4), _random(batch_size=1, seq_len=128, **_FP32)),
    Case("gpt2-6 2x256 fp32", _small(GPT2, 6), _random(batch_size=2, seq_len=256, padding="none", **_FP32)),
    Case("gpt2-6 2x128 fp32 twice", _small(GPT2, 6), _random(batch_size=2, seq_len=128, accumulation=2, padding="none", **_FP32)),
    Case("gpt2-6 2x128 all-linear fp32 twice", _small(GPT2, 6), _random(batch_size=2, seq_len=128, accumulation=2, padding="none", rank=16, target_modules=ALL_LINEAR, dropout=0.0, **_FP32)),
    Case("gpt2-6 4x128 varied fp32", _small(GPT2, 6), _random(batch_size=4, seq_len=128, accumulation=2, **_FP32, **_VARIED)),
    Case("gpt2-6 2x128 full fp32", _small(GPT2, 6), _random(batch_size=2, seq_len=128, method="full", optimizer="adamw-fused", **_FP32)),
    Case("gpt2-6 4x64 chunked ckpt fp32", _small(GPT2, 6), _random(batch_size=4, seq_len=64, loss="chunked", checkpointing="full", **_FP32)),
    Case("pythia-6 4x64 chunked fp32", _small(PYTHIA, 6), _random(batch_size=4, seq_len=64, loss="chunked", **_FP32)),
    Case("pythia-6 8x32 fp32", _small(PYTHIA, 6), _random(batch_size=8, seq_len=32, rank=16, **_FP32)),
    Case("qwen-6 2x128 supervised fp32", _small(QWEN, 6), _random(batch_size=2, seq_len=128, loss="supervised", supervised_len=32, **_FP32)),
    Case("gemma-6 1x128 fp32", _small(GEMMA, 6), _random(batch_size=1, seq_len=128, **_FP32)),
)  # fmt: skip
"""Under glibc's default allocator: benchmarks/heap_accuracy.py."""
