"""LLaMA-Factory's YAML and JSON (src/llamafactory/hparams)."""

from __future__ import annotations

from typing import Any

from ...profiles.errors import UsageError
from . import hugging_face as hf
from .values import Values

NAME = "LLaMA-Factory"
MARKERS = frozenset(
    (
        "cutoff_len", "disable_gradient_checkpointing", "double_quantization", "finetuning_type", "lora_rank",
        "lora_target", "neat_packing", "pure_bf16", "quantization_bit",
    )
)  # fmt: skip
FOREIGN: frozenset[str] = frozenset()
HARMLESS = hf.HARMLESS | frozenset(
    (
        "activation_checkpointing", "activation_checkpointing_kwargs", "adapter_folder", "adapter_name_or_path",
        "asft_alpha", "buffer_size", "cache_dir", "create_new_adapter", "data_shared_file_system",
        "dataset", "default_system", "disable_shuffling", "do_sample", "eaft_alpha", "early_stopping_steps",
        "enable_thinking", "enable_torch_profiler", "eval_dataset", "eval_num_beams", "eval_on_each_dataset",
        "flash_attn_version", "fp8_backend", "gradient_checkpointing", "gradient_checkpointing_kwargs", "hf_hub_token",
        "hyper_parallel_cp_size", "ignore_pad_token_for_loss", "include_effective_tokens_per_second", "infer_backend",
        "infer_dtype", "init_special_tokens", "interleave_probs", "length_penalty", "loraplus_lr_embedding",
        "loraplus_lr_ratio", "low_cpu_mem_usage", "mask_history", "max_length", "max_new_tokens", "max_samples",
        "media_dir", "mix_strategy", "model_revision", "ms_hub_token", "num_beams", "offload_folder", "om_hub_token",
        "overwrite_cache", "pissa_convert", "pissa_init", "pissa_iter", "plot_loss", "predict_with_generate",
        "preprocessing_batch_size", "preserve_thinking", "print_param_status",
        "quantization_device_map", "repetition_penalty", "skip_special_tokens", "split_special_tokens", "streaming",
        "temperature", "template", "tokenized_path", "tool_format", "top_k", "top_p", "train_on_prompt",
        "use_fast_tokenizer", "use_kv_cache", "use_reentrant_gc", "use_swanlab",
    )
)  # fmt: skip
HARMLESS_PREFIXES = (
    *hf.HARMLESS_PREFIXES, "apollo_", "badam_", "export_", "galore_", "generation_", "image_", "kto_", "oft_",
    "ppo_", "pref_", "profiler_", "ref_model", "reward_model", "sglang_", "video_", "vllm_",
)  # fmt: skip
FEATURES = hf.FEATURES | frozenset(
    (
        "add_special_tokens", "add_tokens", "fp8",
        "fp8_enable_fsdp_float8_all_gather", "freeze_language_model", "fsdp_config", "mixture_of_depths",
        "moe_aux_loss_coef", "new_special_tokens_config", "resize_vocab", "rope_scaling", "shift_attn",
        "upcast_layernorm", "upcast_lmhead_output", "use_adam_mini", "use_apollo",
        "use_asft_loss", "use_badam", "use_dft_loss", "use_eaft_loss", "use_galore", "use_hyper_parallel",
        "use_kt", "use_llama_pro", "use_mca", "use_megatron_bridge", "use_muon", "use_unsloth", "use_unsloth_gc",
        "use_v1_kernels",
    )
)  # fmt: skip

_AUTOMATIC = "auto"
_ATTENTION = {
    "auto": _AUTOMATIC, "disabled": "eager", "off": "eager", False: "eager", "sdpa": "sdpa", "fa2": "flash",
    "fa3": "flash",
}  # fmt: skip


def read(values: Values) -> dict[str, Any]:
    """What the file asks for, with LLaMA-Factory's own defaults (hparams/*_args.py) where it asks for nothing."""
    stage = values.word("stage") or "sft"
    if stage not in ("sft", "pt"):
        raise hf.not_supervised(values, f"its stage is {stage}")
    adapters = _adapters(values)
    quantization = adapters.get("quantization")
    attention = _attention(values)
    on = hf.evaluates(values)
    sizes = hf.batch(
        values, "per_device_train_batch_size", "per_device_eval_batch_size", default=8, evaluates=on
    )
    found = {
        **adapters,
        **sizes,
        **_evaluation(values, on),
        **hf.workers(values, "preprocessing_num_workers"),
        **hf.schedule(values, epochs=3.0, learning_rate=5e-5, warmup_steps=0, scheduler="linear"),
        "model": values.word("model_name_or_path"),
        "seq_len": values.whole("cutoff_len") or 2048,
        "attention": attention,
        "optimizer": values.choice("optim", of=hf.OPTIMIZERS) if "optim" in values else hf.DEFAULT_OPTIMIZER,
        "checkpointing": "none" if values.switch("disable_gradient_checkpointing") else "full",
        "precision": _precision(values, adapters["method"]),
        "loss": hf.liger(values, "enable_liger_kernel"),
    }
    if (padding := _padding(values, stage, attention)) is not None:
        found["padding"] = padding
    if values.switch("train_from_scratch"):
        found["init"] = "random"
    if quantization:
        found["kbit_preparation"] = (
            False  # model_utils/checkpointing.py prepares by itself, and casts nothing
        )
    return found


def _adapters(values: Values) -> dict[str, Any]:
    """Method, LoRA values and quantization: LoRA of rank 8 on all linears, alpha twice the rank, no dropout."""
    kind = values.word("finetuning_type") or "lora"
    if kind not in ("lora", "full"):
        raise UsageError(f"finetuning_type in {values.file} is {kind!r}", hint="lplan prices lora and full")
    rank = values.whole("lora_rank") or 8
    targets = values.modules("lora_target", every="all")
    if targets is None and "lora_target" not in values.unclear:
        targets = "all-linear"
    lora = {
        "rank": rank,
        "alpha": values.whole("lora_alpha") or 2 * rank,
        "dropout": values.number("lora_dropout") or 0.0,
        "target_modules": targets,
        "modules_to_save": values.listed("additional_target"),
        "dora": values.toggle("use_dora"),
        "rslora": values.toggle("use_rslora"),
    }
    quantization = _quantization(values)
    if kind == "full":
        return {"method": "full", "quantization": quantization}
    return {**lora, "method": "qlora" if quantization else "lora", "quantization": quantization}


def _evaluation(values: Values, on: bool) -> dict[str, Any]:
    """train/sft/workflow.py: `compute_accuracy` keeps the logits' argmax, of as many samples as `val_size` says."""
    found = hf.evaluation(values)
    samples, measured = values.number("val_size") or 0, values.switch("compute_accuracy")
    if on and measured and "eval_logits" not in found:
        if samples < 1 or values.switch("enable_liger_kernel"):
            values.not_understood("compute_accuracy")
        else:
            found |= {"eval_logits": "argmax", "eval_samples": int(samples)}
    return found


def _quantization(values: Values) -> str | None:
    """model_utils/quantization.py: bitsandbytes in 4 or 8 bits, the 4-bit kind with double quantization."""
    double = values.switch("double_quantization")
    kind = values.choice("quantization_type", of=hf.FOUR_BITS) or "nf4"
    values.choice("quantization_method", of={"bnb": "bnb", "bitsandbytes": "bnb"})
    bits = values.whole("quantization_bit")
    if bits not in (None, 4, 8):
        raise UsageError(f"quantization_bit in {values.file} is {bits}", hint="lplan prices 4 and 8")
    if bits == 4:
        return kind if double is False else f"{kind}-dq"
    return "int8" if bits == 8 else None


def _attention(values: Values) -> str | None:
    found = values.choice("flash_attn", of=_ATTENTION)
    return None if found == _AUTOMATIC else found


def _padding(values: Values, stage: str, attention: str | None) -> str | None:
    """hparams/parser.py: pre-training packs by default. Only neat packing keeps a row's sequences apart."""
    packed, neat = values.switch("packing"), values.switch("neat_packing")
    if neat or (stage == "pt" if packed is None else packed):
        return hf.packing(attention, separated=bool(neat))
    return None


def _precision(values: Values, method: str) -> str | None:
    """model/adapter.py: the base is loaded in the compute dtype; trained weights are fp32 unless pure_bf16.

    Without any of the switches adapters are trained over the checkpoint's own dtype: lplan's default.
    """
    pure = values.switch("pure_bf16")
    bf16, fp16 = values.switch("bf16"), values.switch("fp16")
    autocast = "bf16" if bf16 else "fp16" if fp16 else None
    if pure:
        return "bf16"
    if method == "lora":
        return autocast
    return f"{autocast}-amp" if autocast else "fp32" if method == "full" else None
