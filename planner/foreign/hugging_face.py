"""What the formats share: all of them end in Hugging Face's Trainer, and mean its words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...profiles.errors import UsageError
from .values import Values

OPTIMIZERS: Mapping[str, str] = {
    "adamw_torch": "adamw",
    "adamw_hf": "adamw",
    "adamw_torch_fused": "adamw-fused",
    "adamw_8bit": "adamw-8bit",
    "adamw_bnb_8bit": "adamw-8bit",
    "paged_adamw": "paged-adamw",
    "paged_adamw_32bit": "paged-adamw",
    "paged_adamw_8bit": "paged-adamw-8bit",
    "adafactor": "adafactor",
    # bitsandbytes' Lion with 32-bit states bounds the 8-bit and the paged one from above.
    "lion_32bit": "lion",
    "lion_8bit": "lion",
    "paged_lion_32bit": "lion",
    "paged_lion_8bit": "lion",
    "sgd": "sgd",
}
"""transformers/training_args.py, `OptimizerNames`."""
DEFAULT_OPTIMIZER = "adamw-fused"
"""transformers 5: `default_optim` with torch 2.8 or newer."""
ATTENTION: Mapping[str, str] = {
    "eager": "eager",
    "sdpa": "sdpa",
    "flash_attention_2": "flash",
    "flash_attention_3": "flash",
    "kernels-community/flash-attn2": "flash",
    "kernels-community/flash-attn3": "flash",
    "kernels-community/vllm-flash-attn3": "flash",
}
FOUR_BITS: Mapping[str, str] = {"nf4": "nf4", "fp4": "fp4"}
HARMLESS = frozenset(
    (
        "accelerator_config", "average_tokens_across_devices", "data_seed", "debug",
        "disable_tqdm", "do_eval", "do_predict", "do_train", "enable_jit_checkpoint",
        "eval_delay", "eval_do_concat_batches", "eval_on_start", "eval_steps", "eval_strategy",
        "eval_use_gather_object", "evaluation_strategy", "full_determinism", "greater_is_better", "group_by_length",
        "ignore_data_skip", "include_for_metrics", "include_num_input_tokens_seen", "include_tokens_per_second",
        "label_names", "length_column_name", "liger_kernel_config", "load_best_model_at_end", "local_rank",
        "lr_scheduler_kwargs", "metric_for_best_model", "output_dir", "overwrite_output_dir", "project",
        "remove_unused_columns", "report_to", "restore_callback_states_from_checkpoint", "resume_from_checkpoint",
        "run_name", "skip_memory_metrics", "torch_compile_backend", "torch_compile_mode",
        "torch_empty_cache_steps", "train_sampling_strategy", "trust_remote_code", "use_cache", "use_cpu",
        "warmup_ratio",
    )
)  # fmt: skip
"""Fields of TrainingArguments that change no byte that lplan counts."""
HARMLESS_PREFIXES = (
    "adam_", "dataloader_", "dataset_", "ddp_", "hub_", "log_", "logging_", "push_to_hub", "ray_", "save_", "swanlab_",
    "trackio_", "wandb_",
)  # fmt: skip
FEATURES = frozenset(
    (
        "auto_find_batch_size", "bf16_full_eval", "deepspeed", "fp16_full_eval", "fsdp",
        "label_smoothing_factor", "neftune_noise_alpha", "optim_args", "optim_target_modules", "parallelism_config",
        "torch_compile",
    )
)  # fmt: skip
"""Fields that change memory when they are on, in ways that lplan does not count."""


def schedule(values: Values, **defaults: Any) -> dict[str, Any]:
    """The fields of TrainingArguments that say how long and how fast to learn, over a format's own defaults."""
    steps = values.number("max_steps", least=-1)
    warmup = values.number("warmup_steps")
    found: dict[str, Any] = {
        "epochs": values.number("num_train_epochs"),
        "max_steps": int(steps) if steps and steps > 0 else None,
        "learning_rate": values.number("learning_rate"),
        # transformers 5: below 1 it is a share of all steps, which nobody knows here
        "warmup_steps": int(warmup) if warmup is not None and warmup >= 1 else None,
        "scheduler": values.word("lr_scheduler_type"),
        "weight_decay": values.number("weight_decay"),
        "max_grad_norm": values.number("max_grad_norm"),
        "seed": values.whole("seed", least=0),
    }
    return {**defaults, **{knob: value for knob, value in found.items() if value is not None}}


def batch(values: Values, micro: str, evaluation: str, *, default: int, evaluates: bool) -> dict[str, int]:
    """Micro batch and sequences per optimizer step on one device.

    An evaluation batch that is larger than the micro batch is not understood: lplan evaluates by micro batches.
    """
    size = values.whole(micro) or default
    steps = values.whole("gradient_accumulation_steps") or 1
    if (values.whole(evaluation) or 0) > size and evaluates:
        values.not_understood(evaluation)
    return {"batch_size": size, "effective_batch": size * steps}


def liger(values: Values, switch: str = "use_liger_kernel") -> str | None:
    """The fused loss, where Liger's kernels are on. Its others save memory too, which is not counted: the key is not
    understood unless the configuration says which of them are off."""
    if not values.switch(switch):
        return None
    chosen = values.mapping("liger_kernel_config")
    if any(chosen.get(name, True) for name in ("rope", "rms_norm", "swiglu")):
        values.not_understood(switch)
    return "fused" if chosen.get("fused_linear_cross_entropy", True) else None


def evaluates(values: Values) -> bool:
    """Whether the Trainer evaluates while it trains: by default it does not."""
    return any(
        name in values and not values.is_off(name) for name in ("eval_strategy", "evaluation_strategy")
    )


def evaluation(values: Values) -> dict[str, Any]:
    """TF32; and what evaluations keep of logits: nothing where metrics are computed batch by batch, or not at all.

    Whether a program computes metrics at all is in its code, not in its configuration: by flags.
    """
    found: dict[str, Any] = {
        "eval_accumulation_steps": values.whole("eval_accumulation_steps"),
        "tf32": values.toggle("tf32"),
    }
    if values.switch("prediction_loss_only") or values.switch("batch_eval_metrics"):
        found["eval_logits"] = "none"
    return found


def workers(values: Values, *tokenizing: str) -> dict[str, int | None]:
    """Processes that make batches, and those that tokenize, by the format's own names."""
    return {
        "loader_workers": values.whole("dataloader_num_workers", least=0),
        "tokenizing_workers": values.whole(*tokenizing, least=0),
    }


def packing(attention: str | None, *, separated: bool = True) -> str:
    """lplan's padding for packed rows, which are all as long as the longest sequence.

    Kept apart from each other, the sequences of a row need a mask as large as padding's wherever the attention is
    not the flash-attention package's.
    """
    return "padded" if separated and attention != "flash" else "none"


def not_supervised(values: Values, what: str) -> UsageError:
    """For a file whose objective holds more than one sequence's logits, or another model beside the trained one."""
    return UsageError(
        f"{values.file} is not supervised fine-tuning: {what}",
        hint="lplan prices supervised fine-tuning, and nothing else yet",
    )
