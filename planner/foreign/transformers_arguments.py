"""Hugging Face TrainingArguments and TRL SFTConfig, with TRL's ModelConfig or PEFT's LoraConfig beside them."""

from __future__ import annotations

from typing import Any

from ...profiles.errors import UsageError
from . import hugging_face as hf
from .narrowing import narrowed
from .values import Values

NAME = "TrainingArguments"
MARKERS = frozenset(
    (
        "activation_checkpointing", "dataset_text_field", "gradient_accumulation_steps", "gradient_checkpointing",
        "learning_rate", "lr_scheduler_type", "max_seq_length", "num_train_epochs", "optim", "output_dir",
        "per_device_eval_batch_size", "per_device_train_batch_size", "use_peft",
    )
)  # fmt: skip
FOREIGN: frozenset[str] = frozenset()
HARMLESS = hf.HARMLESS | frozenset(
    (
        "assistant_only_loss", "auto_mapping", "bnb_4bit_quant_storage", "chat_template",
        "chat_template_path", "completion_only_loss", "datasets", "env", "eos_token", "eval_packing", "fan_in_fan_out",
        "fsdp_config", "inference_mode", "init_lora_weights", "lora_task_type", "megatron_core", "model_revision",
        "pad_to_multiple_of", "pad_token", "peft_version", "qalora_group_size", "revision", "router_aux_loss_coef",
        "runtime_config", "shuffle_dataset", "task_type", "tokenizer_name_or_path", "truncation_mode",
    )
)  # fmt: skip
HARMLESS_PREFIXES = hf.HARMLESS_PREFIXES
FEATURES = hf.FEATURES | frozenset(
    (
        "alora_invocation_tokens", "arrow_config", "corda_config",
        "ensure_weight_tying", "ephemeral_gpu_offload", "eva_config", "kasa_config",
        "layer_replication", "loftq_config", "lora_ga_config",
        "megatron_config", "model_init_kwargs",
        "monteclora_config",
        "use_bdlora", "use_qalora", "velora_config",
    )
)  # fmt: skip

_SFT = (
    "activation_offloading", "assistant_only_loss", "chat_template_path", "completion_only_loss", "dataset_kwargs",
    "dataset_num_proc", "dataset_text_field", "eval_packing", "max_length", "max_seq_length", "model_init_kwargs",
    "packing", "packing_strategy", "padding_free", "shuffle_dataset", "truncation_mode", "use_peft",
)  # fmt: skip
_PREFERENCES = ("beta", "max_completion_length", "max_prompt_length", "num_generations", "reward_weights")
_PEFT = ("peft_type", "r", "target_modules")
_TRL_LORA = ("lora_alpha", "lora_dropout", "lora_r", "lora_target_modules")
_DTYPES = {
    "bfloat16": "bf16",
    "bf16": "bf16",
    "float16": "fp16",
    "half": "fp16",
    "fp16": "fp16",
    "float32": "fp32",
}

_BIASES = {"none": "none", "all": "all", "lora_only": "lora-only"}


def read(values: Values) -> dict[str, Any]:
    """What the arguments ask for, with the defaults of TrainingArguments or SFTConfig where they ask for nothing."""
    for name in _PREFERENCES:
        if name in values:
            raise hf.not_supervised(values, f"it has {name}")
    sft = any(name in values for name in _SFT)
    attention = values.choice("attn_implementation", of=hf.ATTENTION)
    adapters = _adapters(values)
    quantized = adapters.get("quantization") is not None
    on = hf.evaluates(values)
    checkpointing = _checkpointing(values, by_default=sft and "max_seq_length" not in values)
    sizes = hf.batch(
        values, "per_device_train_batch_size", "per_device_eval_batch_size", default=8, evaluates=on
    )
    found = {
        **adapters,
        **sizes,
        **hf.evaluation(values),
        **hf.workers(values, "dataset_num_proc"),
        **hf.schedule(
            values, epochs=3.0, learning_rate=2e-5 if sft else 5e-5, warmup_steps=0, scheduler="linear"
        ),
        "model": values.word("model_name_or_path", "base_model_name_or_path", "base_model"),
        "attention": attention,
        "optimizer": values.choice("optim", of=hf.OPTIMIZERS) if "optim" in values else hf.DEFAULT_OPTIMIZER,
        "checkpointing": checkpointing,
        "precision": _precision(values, sft=sft, quantized=quantized),
        "offload": _offload(values, checkpointing),
        "loss": hf.liger(values) or values.choice("loss_type", of={"nll": "full"}),
    }
    if sft:
        found |= _rows(values, attention)
    if sft and quantized:
        # trl/trainer/sft_trainer.py: no prepare_model_for_kbit_training, and QLoRA's adapters are cast to bf16
        found |= {"kbit_preparation": False, "adapter_dtype": "base"}
    return found


def _adapters(values: Values) -> dict[str, Any]:
    """Method, LoRA values and quantization.

    Without a word about adapters the Trainer trains every weight. ModelConfig's defaults are r 16, alpha 32,
    dropout 0.05 (trl/trainer/model_config.py), LoraConfig's 8, 8, 0 (peft/tuners/lora/config.py).
    """
    kind = values.word("peft_type")
    if kind is not None and kind.upper() != "LORA":
        raise UsageError(f"peft_type in {values.file} is {kind!r}", hint="lplan prices LORA and no adapters")
    peft = any(name in values for name in _PEFT)
    bits = _quantization(values)
    wanted = values.switch("use_peft")
    if wanted is None:
        wanted = peft or bits is not None or any(name in values for name in _TRL_LORA)
    rank, alpha, dropout = (8, 8, 0.0) if peft else (16, 32, 0.05)
    lora = {
        "rank": values.whole("lora_r", "r") or rank,
        "alpha": values.whole("lora_alpha") or alpha,
        "dropout": _or(values.number("lora_dropout"), dropout),
        "target_modules": narrowed(
            values,
            values.modules("lora_target_modules", "target_modules", every="all-linear", expressions=True),
            layers="layers_to_transform",
            pattern="layers_pattern",
            left_out="exclude_modules",
        ),
        "target_parameters": values.listed("lora_target_parameters", "target_parameters"),
        "modules_to_save": values.listed("lora_modules_to_save", "modules_to_save"),
        "trainable_tokens": values.tokens("trainable_token_indices"),
        "rank_pattern": values.patterns("rank_pattern"),
        "alpha_pattern": values.patterns("alpha_pattern"),
        "dora": values.toggle("use_dora"),
        "rslora": values.toggle("use_rslora"),
        "lora_bias": values.toggle("lora_bias"),
        "bias": values.choice("bias", of=_BIASES),
    }
    if not wanted:
        return {"method": "full", "quantization": bits}
    return {**lora, "method": "qlora" if bits else "lora", "quantization": bits}


def _quantization(values: Values) -> str | None:
    kind = values.choice("bnb_4bit_quant_type", of=hf.FOUR_BITS) or "nf4"
    nested = values.switch("use_bnb_nested_quant", "bnb_4bit_use_double_quant")
    four, eight = values.switch("load_in_4bit"), values.switch("load_in_8bit")
    if four:
        return f"{kind}-dq" if nested else kind
    return "int8" if eight else None


def _precision(values: Values, *, sft: bool, quantized: bool) -> str:
    """Where the dtype is not given, TRL loads fp32 (`create_model_from_path`), and so it is taken to be everywhere.

    SFTConfig has bf16 on unless fp16 is (trl/trainer/base_config.py); older ones, with max_seq_length, don't.
    """
    fp16 = values.switch("fp16")
    bf16 = values.switch("bf16")
    if bf16 is None:
        bf16 = sft and not fp16 and "max_seq_length" not in values
    autocast = "bf16" if bf16 else "fp16" if fp16 else None
    dtype = (values.word("dtype", "torch_dtype") or "float32").removeprefix("torch.")
    loaded = (autocast or "bf16") if dtype == "auto" else _DTYPES.get(dtype)
    if loaded is None:
        values.not_understood("dtype" if "dtype" in values else "torch_dtype")
        loaded = "fp32"
    if autocast and (quantized or loaded == "fp32"):
        return f"{autocast}-amp"
    return loaded


_CHECKPOINTING = ("activation_checkpointing_kwargs", "gradient_checkpointing_kwargs")


def _offload(values: Values, checkpointing: str) -> tuple[str, ...] | None:
    """trl/models/activation_offloading.py moves all that is saved; transformers' checkpointing its checkpoints."""
    if values.switch("activation_offloading"):
        return ("activations",)
    offloaded = checkpointing != "none" and values.mapping(*_CHECKPOINTING).get("offload")
    return ("checkpoints",) if offloaded else None


def _checkpointing(values: Values, *, by_default: bool) -> str:
    on = values.switch("activation_checkpointing", "gradient_checkpointing")
    options = values.mapping(*_CHECKPOINTING)
    if not (by_default if on is None else on):
        return "none"
    every = options.get("every_n_layers", 1)
    return f"every-{every}" if isinstance(every, int) and every > 1 else "full"


def _rows(values: Values, attention: str | None) -> dict[str, Any]:
    """Length and padding. SFTConfig cuts at 1,024 tokens; null: nothing is cut, and the length is not known."""
    length = values.whole("max_length", "max_seq_length")
    if length is None and not values.is_null("max_length"):
        length = 1024
    separated = values.word("packing_strategy") != "wrapped"
    packing, free = values.switch("packing"), values.switch("padding_free")
    if free or (packing and separated and attention != "flash"):
        # trl/trainer/sft_trainer.py: packing by best fit makes the batch one row, as padding_free does
        return {"seq_len": length, "padding": "packed"}
    if not packing:
        return {"seq_len": length}
    return {"seq_len": length, "padding": hf.packing(attention, separated=separated)}


def _or(value: float | None, default: float) -> float:
    return default if value is None else value
