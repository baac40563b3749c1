"""Combinations of knobs that the libraries refuse, or that a device does not have: said before any work."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ..profiles.errors import UsageError

_Rule = tuple[Callable[[Any], bool], str, str]

_RULES: tuple[_Rule, ...] = (
    (
        lambda r: r.method == "qlora" and r.quantization == "none",
        "--method qlora needs a quantization",
        "take --quantization nf4, or --method lora",
    ),
    (
        lambda r: r.quantization != "none" and r.method == "full",
        "quantized weights cannot be trained themselves: they have no gradients",
        "take --method qlora",
    ),
    (
        lambda r: r.is_packed and r.device == "cpu",
        "GPTQ and AWQ weights are unpacked anew for every product, by gptqmodel's kernels for GPUs",
        "take the model that was quantized, or a GPU by --vram or --hardware t4",
    ),
    (
        lambda r: r.is_packed and r.precision == "fp32",
        "GPTQ and AWQ weights are unpacked to 16 bits: gptqmodel's kernels have no fp32",
        "take --precision fp16",
    ),
    (
        lambda r: r.quantization == "awq" and "bf16" in r.precision,
        "AWQ kernels compute in fp16, to which transformers turns bf16 (quantizers/quantizer_awq.py)",
        "take --precision fp16 or fp16-amp",
    ),
    (
        lambda r: r.is_packed and r.dora,
        "PEFT has no DoRA over GPTQ and AWQ (tuners/lora/gptq.py, awq.py)",
        "take --dora off",
    ),
    (
        lambda r: r.quantization not in ("none", "int8") and r.device == "cpu",
        "4-bit base weights are slower and no smaller in practice on a CPU (bitsandbytes)",
        "take --quantization none or int8 (torchao), or a GPU by --vram or --hardware t4",
    ),
    (
        lambda r: r.quantization != "none" and r.device == "cpu" and r.dora,
        "DoRA unpacks torchao's int8 weights in every step, and is not priced",
        "take --dora off, or --quantization none",
    ),
    (
        lambda r: r.quantization != "none" and r.device == "cpu" and r.lora_bias,
        "PEFT refuses a bias on adapters of torchao's weights (tuners/lora/torchao.py)",
        "take --lora-bias off, or --quantization none",
    ),
    (
        lambda r: r.quantization != "none" and r.device == "cpu" and r.init == "random",
        "transformers quantizes weights as it loads them, not those made in memory",
        "take --init pretrained, or --quantization none",
    ),
    (
        lambda r: r.precision.startswith("fp16") and r.device == "cpu",
        "fp16 is for GPUs: CPUs compute bf16 or fp32",
        "take --precision fp32, bf16 or bf16-amp",
    ),
    (
        lambda r: r.precision == "fp16" and (r.method == "full" or r.adapter_dtype == "base"),
        "fp16 gradients cannot be unscaled: torch's gradient scaler refuses them",
        "take --precision fp16-amp, or fp32 adapters",
    ),
    (
        lambda r: r.adapts and _has_half_gradients(r),
        "fp16 copies and biases cannot be trained: torch's gradient scaler refuses fp16 gradients",
        "take --precision fp16-amp, or leave out --modules-to-save and --bias",
    ),
    (
        lambda r: r.adapts and r.dora and r.lora_bias,
        "DoRA has no bias on its adapters: PEFT refuses lora_bias with use_dora",
        "take --lora-bias off, or --dora off",
    ),
    (
        lambda r: r.adapts and r.target_parameters and r.dora,
        "DoRA adapts linears and embeddings: PEFT refuses it on parameters",
        "take --dora off, or leave out --target-parameters",
    ),
    (
        lambda r: r.adapts and r.target_parameters and r.lora_bias,
        "PEFT refuses a bias on adapters of parameters",
        "take --lora-bias off, or leave out --target-parameters",
    ),
    (
        lambda r: r.adapts and r.target_parameters and r.dropout > 0,
        "adapters of parameters have no input to drop: PEFT refuses lora_dropout with target_parameters",
        "take --dropout 0",
    ),
    (
        lambda r: r.attention == "flash" and r.device == "cpu",
        "the flash-attention package needs a GPU",
        "take --attention sdpa or eager",
    ),
    (
        lambda r: r.attention == "flash" and r.weights_dtype == "float32" and r.autocast_dtype is None,
        "the flash-attention package computes in fp16 and bf16 only",
        "take --precision bf16, or --attention sdpa",
    ),
    (
        lambda r: r.loss == "fused" and r.device == "cpu",
        "the fused loss is a Triton kernel of Liger's, for GPUs",
        "take --loss chunked, which holds less and needs no package",
    ),
    (
        lambda r: r.eval_logits != "none" and r.loss != "full",
        "metrics are computed from the logits of all positions, and other losses than the full one have none",
        "take --loss full, or --eval-logits none",
    ),
    (
        lambda r: r.device == "cpu" and r.optimizer in ("adamw-8bit", "paged-adamw", "paged-adamw-8bit", "lion"),
        "8-bit, paged and Lion optimizers are bitsandbytes' kernels for GPUs: its way on a CPU unpacks whole states to "
        "fp32 at each step, and pages nothing",
        "take --optimizer adamw, adamw-fused, adafactor or sgd",
    ),
    (
        lambda r: r.tf32 and r.device == "cpu",
        "TF32 is a format of GPUs' tensor cores",
        "take --tf32 off; CPUs compute bf16",
    ),
    (
        lambda r: r.offload and r.device == "cpu",
        "offloading is from a GPU to host memory, and a CPU trains in it",
        "leave it out; weights stay pages of their file where --precision is the file's",
    ),
    (
        lambda r: "checkpoints" in r.offload and r.checkpointing == "none",
        "there are no checkpoints to offload",
        "add --checkpointing full, or take --offload activations",
    ),
    (
        lambda r: {"activations", "checkpoints"} <= set(r.offload),
        "checkpoints are among the activations",
        "take one of them",
    ),
    (
        lambda r: "optimizer" in r.offload and r.optimizer not in ("adamw", "adamw-fused"),
        "the optimizer that runs on the host is AdamW (torchao's CPUOffloadOptimizer)",
        "take --optimizer adamw, or paged-adamw without --offload optimizer",
    ),
    (
        lambda r: "optimizer" in r.offload and (r.clipping or r.precision.startswith("fp16")),
        "gradients are on the host before they could be clipped or unscaled (torchao's CPUOffloadOptimizer)",
        "take --clipping off and --precision bf16",
    ),
    (
        lambda r: "weights" in r.offload and (r.method != "lora" or r.checkpointing != "full"),
        "offloaded weights come back for every forward pass: they must be frozen, and no saved tensor may keep them",
        "take --method lora with --checkpointing full",
    ),
    (
        lambda r: "weights" in r.offload and (r.dora or r.modules_to_save or r.target_parameters or r.bias != "none"),
        "offloaded modules hold no weights between forward passes, where DoRA, copies and experts read them",
        "take plain LoRA",
    ),
    (
        lambda r: (r.allocator == "pinned") > (r.device == "cpu"),
        "the pinned allocator is the C library's, for CPUs",
        "take --allocator default or expandable",
    ),
    (
        lambda r: (r.allocator == "expandable") > (r.device == "cuda"),
        "expandable segments are CUDA's",
        "take --allocator pinned or default",
    ),
    (
        lambda r: (r.kernel == "cpu") != (r.device == "cpu"),
        "the attention kernel belongs to another device",
        "leave it out",
    ),
)  # fmt: skip


_TORCHAO = "PEFT trains over torchao's int8 alone (tuners/lora/torchao.py)"
REFUSED_QUANTIZATIONS: Mapping[str, tuple[str, str]] = {
    "int4": (f"int4 weights of torchao have no gradients under LoRA: {_TORCHAO}", "take --quantization nf4"),
    "gguf": (
        "transformers trains no packed GGUF weights (quantizers/quantizer_gguf.py), and unpacked ones save no memory",
        "name the .gguf file by --model to price it as it is loaded",
    ),
}
"""Words for `--quantization` that name what cannot be trained, with the reason and what helps."""


def _has_half_gradients(recipe: Any) -> bool:
    """Whether something of the base that is in fp16 is trained: k-bit preparation casts it to fp32 before."""
    half = recipe.weights_dtype == "float16" and not (
        recipe.quantization != "none" and recipe.kbit_preparation
    )
    return half and (bool(recipe.modules_to_save) or recipe.bias != "none")


def require_supported(recipe: Any) -> None:
    """Raises UsageError, with the reason, for a combination of a planner.recipe.Recipe that cannot run."""
    for applies, reason, hint in _RULES:
        if applies(recipe):
            raise UsageError(reason, hint=hint)
