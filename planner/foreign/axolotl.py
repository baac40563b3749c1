"""axolotl's YAML (src/axolotl/utils/schemas)."""

from __future__ import annotations

from typing import Any

from ...profiles.errors import UsageError
from . import hugging_face as hf
from .narrowing import narrowed
from .values import Values

NAME = "axolotl"
MARKERS = frozenset(
    ("base_model", "micro_batch_size", "sequence_len", "sample_packing", "lora_target_linear")
)
FOREIGN = frozenset(("per_device_train_batch_size",))
HARMLESS = hf.HARMLESS | frozenset(
    (
        "added_tokens_overrides", "auto_resume_from_checkpoints", "axolotl_config_path", "base_model_config",
        "chat_template", "chat_template_jinja", "chat_template_kwargs", "cosine_constant_lr_ratio",
        "cosine_min_lr_ratio", "curriculum_sampling", "datasets", "ddp", "default_system_message", "device",
        "device_map", "do_bench_eval", "do_causal_lm_eval", "early_stopping_patience", "embedding_lr",
        "embedding_lr_scale", "embeddings_skip_upcast", "eot_tokens", "eval_causal_lm_metrics", "eval_max_new_tokens",
        "eval_sample_packing", "eval_table_size", "evals_per_epoch", "excess_length_strategy",
        "experimental_skip_move_to_device", "gc_collect_steps", "gc_steps", "generate_samples",
        "gradient_checkpointing_kwargs", "hf_mlflow_log_artifacts", "hf_use_auth_token", "include_tkps",
        "is_falcon_derived_model", "is_llama_derived_model", "is_mistral_derived_model", "is_preprocess",
        "is_qwen_derived_model", "lora_fan_in_fan_out", "lora_model_dir", "lora_on_cpu",
        "loraplus_lr_embedding", "loraplus_lr_ratio", "low_cpu_mem_usage", "mean_resizing_embeddings", "merge_lora",
        "merge_method", "min_sample_len", "model_type", "multipack_real_batches", "num_generation_samples",
        "pad_to_multiple_of", "pad_to_sequence_len", "peft_init_lora_weights", "preprocess_iterable",
        "pretrain_multipack_attn", "pretrain_multipack_buffer_size", "push_dataset_to_hub",
        "resize_token_embeddings_to_32x", "revision_of_model", "roundup_power2_divisions", "sample_packing_bin_size",
        "sample_packing_eff_est", "sample_packing_group_size", "sample_packing_mp_start_method",
        "sample_packing_sequentially", "saves_per_epoch", "shuffle_before_merging_datasets", "shuffle_merged_datasets",
        "skip_prepare_dataset", "special_tokens", "streaming", "streaming_multipack_buffer_size", "strict",
        "test_datasets", "tokenizer_config", "tokenizer_legacy", "tokenizer_type", "tokenizer_use_fast", "tokens",
        "total_num_tokens", "total_supervised_tokens", "train_on_inputs", "type_of_model", "use_comet", "use_mlflow",
        "use_otel_metrics", "use_tensorboard", "use_trackio", "use_wandb", "val_set_size", "world_size",
    )
)  # fmt: skip
HARMLESS_PREFIXES = (
    *hf.HARMLESS_PREFIXES, "bench_", "comet_", "dion_", "generation_", "gradio_", "jagged_", "lisa_",
    "loss_watchdog_", "lr_", "mlflow_", "otel_", "profiler_", "qgalore_", "tokenizer_",
)  # fmt: skip
FEATURES = hf.FEATURES | frozenset(
    (
        "batch_flattening", "bnb_config_kwargs", "chunked_cross_entropy",
        "context_parallel_size", "cut_cross_entropy", "deepcompile", "dp_replicate_size", "dp_shard_size",
        "fix_untrained_tokens", "flash_attn_cross_entropy", "flash_attn_fuse_mlp", "flash_attn_rms_norm",
        "flash_optimum", "flex_attention", "fp32_norms", "fp8", "freeze_mm_modules", "fsdp_config", "fsdp_version",
        "gptq", "layer_offloading", "loftq_config", "lora_embedding_kernel", "lora_mlp_kernel",
        "lora_o_kernel", "lora_qkv_kernel", "max_packed_sequence_len",
        "noisy_embedding_alpha", "overrides_of_model_config", "overrides_of_model_kwargs", "peft",
        "peft_layer_replication",
        "plugins", "pretraining_dataset", "qat", "quantization", "quantize_moe_experts", "relora",
        "rope_scaling", "s2_attention", "sage_attention", "scaling_softmax", "selective_checkpointing",
        "sequence_parallel_degree", "shrink_embeddings", "tensor_parallel_size", "tiled_mlp", "unfrozen_parameters",
        "unsloth_cross_entropy_loss", "unsloth_lora_mlp", "unsloth_lora_o", "unsloth_lora_qkv", "use_eaft",
        "use_kernels", "use_onebitllms", "use_pose", "xformers_attention",
    )
)  # fmt: skip

_FLAGS = {"flash_attention": "flash", "sdp_attention": "sdpa", "eager_attention": "eager"}
_SWITCH = {True: "on", "true": "on", False: "off", "false": "off"}
_CHECKPOINTS = {**_SWITCH, "offload": "legacy"}


def read(values: Values) -> dict[str, Any]:
    """What the file asks for, with axolotl's own defaults (schemas/training.py) where it asks for nothing."""
    for name in ("rl", "reward_model", "process_reward_model"):
        if name in values and not values.is_off(name):
            raise hf.not_supervised(values, f"it has {name}")
    adapters = _adapters(values)
    quantization = adapters.get("quantization")
    attention = _attention(values)
    found = {
        **adapters,
        **_batch(values),
        **hf.evaluation(values),
        **hf.workers(values, "dataset_num_proc", "dataset_processes"),
        **hf.schedule(values, epochs=values.number("num_epochs") or 1.0, scheduler="cosine"),
        "model": values.word("base_model"),
        "seq_len": values.whole("sequence_len") or 512,
        "attention": attention,
        "optimizer": values.choice("optimizer", of=hf.OPTIMIZERS)
        if "optimizer" in values
        else hf.DEFAULT_OPTIMIZER,
        "checkpointing": _checkpointing(values),
        "offload": _offload(values),
        "loss": "fused" if values.switch("liger_fused_linear_cross_entropy") else hf.liger(values),
        "precision": _precision(values, quantization),
    }
    if values.switch("reinit_weights"):
        found["init"] = "random"
    if (scheduler := values.word("lr_scheduler")) is not None:
        found["scheduler"] = scheduler
    if values.switch("sample_packing"):
        found["padding"] = hf.packing(attention)
    if quantization:
        # loaders/model.py, `_configure_embedding_dtypes`: the casts of k-bit preparation are undone
        found["kbit_preparation"] = False
    return found


def _adapters(values: Values) -> dict[str, Any]:
    """Method, LoRA values and quantization. Rank and alpha have no default in axolotl, dropout's is 0."""
    method = values.word("adapter") or "none"
    if method not in ("lora", "qlora", "none"):
        raise UsageError(f"adapter in {values.file} is {method!r}", hint="lplan prices lora, qlora and none")
    dropout = values.number("lora_dropout")
    every = values.switch("lora_target_linear")
    named = values.modules("lora_target_modules", every="all-linear", expressions=True)
    lora = {
        "rank": values.whole("lora_r"),
        "alpha": values.whole("lora_alpha"),
        "dropout": 0.0 if dropout is None else dropout,
        "target_modules": narrowed(
            values,
            "all-linear" if every else named,
            layers="peft_layers_to_transform",
            pattern="peft_layers_pattern",
        ),
        "adapter_dtype": "base" if values.switch("peft_autocast_adapter_dtype") is False else None,
        "target_parameters": values.listed("lora_target_parameters"),
        "modules_to_save": values.listed("lora_modules_to_save"),
        "trainable_tokens": values.tokens("peft_trainable_token_indices"),
        "rank_pattern": values.patterns("lora_rank_pattern"),
        "alpha_pattern": values.patterns("lora_alpha_pattern"),
        "dora": values.toggle("peft_use_dora"),
        "rslora": values.toggle("peft_use_rslora"),
    }
    four, eight = values.switch("load_in_4bit"), values.switch("load_in_8bit")
    # loaders/model.py: nf4 with double quantization, always
    quantization = "nf4-dq" if four or (method == "qlora" and not eight) else "int8" if eight else None
    if method == "none":
        return {"method": "full", "quantization": quantization}
    return {**lora, "method": "qlora" if quantization else "lora", "quantization": quantization}


def _batch(values: Values) -> dict[str, int]:
    """`batch_size`, sequences per step on one device, is the older way to say the accumulation."""
    sizes = hf.batch(values, "micro_batch_size", "eval_batch_size", default=1, evaluates=True)
    whole = values.whole("batch_size")
    if whole is None or "gradient_accumulation_steps" in values:
        return sizes
    micro = sizes["batch_size"]
    return {**sizes, "effective_batch": max(1, whole // micro) * micro}


def _attention(values: Values) -> str | None:
    named = values.choice("attn_implementation", of=hf.ATTENTION)
    on = [kind for flag, kind in _FLAGS.items() if values.switch(flag)]
    return named or (on[0] if on else None)


def _checkpointing(values: Values) -> str:
    """Off by default. Checkpoints on disk are counted as if they stayed, and the key as not understood."""
    word = values.choice("gradient_checkpointing", of=_CHECKPOINTS)
    return "full" if word in ("on", "legacy") or "gradient_checkpointing" in values.unclear else "none"


def _offload(values: Values) -> tuple[str, ...] | None:
    """TRL's offloading of all that is saved, or the older one of the checkpoints alone."""
    word = values.choice("activation_offloading", of={**_SWITCH, "legacy": "legacy"})
    if word == "on":
        return ("activations",)
    checkpointing = values.choice("gradient_checkpointing", of=_CHECKPOINTS)
    return ("checkpoints",) if "legacy" in (word, checkpointing) and checkpointing != "off" else None


def _precision(values: Values, quantization: str | None) -> str | None:
    """utils/config: weights are loaded in the dtype that bf16 and fp16 name, and autocast computes in it.

    `bf16: auto`, the default, is bf16 where the GPU has it, else fp16, as lplan's own default is.
    """
    bf16 = values.choice("bf16", of={**_SWITCH, "auto": "auto"}) or "auto"
    fp16 = values.switch("fp16")
    pure = "bf16" if values.switch("bfloat16") else "fp16" if values.switch("float16") else None
    autocast = "bf16" if bf16 == "on" else "fp16" if fp16 else None
    if autocast is None and pure is None and bf16 == "auto":
        return "bf16-amp" if quantization else None
    if autocast:
        return f"{autocast}-amp" if quantization else autocast
    return pure or ("fp16" if quantization == "int8" else "fp32")
