"""A plan in the words of Hugging Face's TrainingArguments, and of what stands beside them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..foreign import transformers_arguments
from ..foreign.values import Values
from .job import OPTIMIZERS, ExportJob

ATTENTION = {"sdpa": "sdpa", "eager": "eager", "flash": "flash_attention_2"}


_FUSED_LOSS_ALONE = {"fused_linear_cross_entropy": True, "rope": False, "rms_norm": False, "swiglu": False}
"""Of Liger's kernels."""


def training_arguments(job: ExportJob) -> dict[str, Any]:
    """The fields of TrainingArguments that a plan decides."""
    recipe, schedule = job.recipe, job.schedule
    arguments: dict[str, Any] = {
        "per_device_train_batch_size": recipe.batch_size,
        "gradient_accumulation_steps": recipe.accumulation,
        **schedule_arguments(job),
        "optim": OPTIMIZERS.get(recipe.optimizer, "sgd"),
        "bf16": recipe.precision == "bf16-amp",
        "fp16": recipe.precision.startswith("fp16"),
        "activation_checkpointing": recipe.checkpoint_period > 0,
    }
    if recipe.checkpoint_period:
        options: dict[str, Any] = {"use_reentrant": False}
        if recipe.checkpoint_period > 1:
            options["every_n_layers"] = recipe.checkpoint_period
        if "checkpoints" in recipe.offload:
            options["offload"] = True
        arguments["activation_checkpointing_kwargs"] = options
    if recipe.loss == "fused":
        arguments |= {"use_liger_kernel": True, "liger_kernel_config": _FUSED_LOSS_ALONE}
    return {
        **arguments,
        "use_cpu": recipe.device == "cpu",
        "seed": schedule.seed,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
    }


def schedule_arguments(job: ExportJob) -> dict[str, Any]:
    """How long and how fast to learn, in the Trainer's words."""
    schedule = job.schedule
    arguments: dict[str, Any] = {
        "num_train_epochs": schedule.epochs,
        "learning_rate": schedule.learning_rate,
        "warmup_steps": schedule.warmup_steps,
        "lr_scheduler_type": schedule.scheduler,
        "weight_decay": schedule.weight_decay,
        "max_grad_norm": job.max_grad_norm,
    }
    return arguments if schedule.max_steps is None else {**arguments, "max_steps": schedule.max_steps}


def lora_arguments(job: ExportJob) -> dict[str, Any]:
    """The fields of PEFT's LoraConfig."""
    recipe = job.recipe
    more = {
        "rank_pattern": dict(recipe.rank_pattern),
        "alpha_pattern": dict(recipe.alpha_pattern),
        "target_parameters": list(recipe.target_parameters),
        "modules_to_save": list(recipe.modules_to_save),
        "trainable_token_indices": list(recipe.trainable_tokens),
        "use_rslora": recipe.rslora,
        "use_dora": recipe.dora,
        "lora_bias": recipe.lora_bias,
    }
    return {
        "r": recipe.rank,
        "lora_alpha": recipe.alpha,
        "lora_dropout": recipe.dropout,
        "target_modules": job.targets,
        "bias": recipe.bias.replace("-", "_"),
        "task_type": "CAUSAL_LM",
        **{name: value for name, value in more.items() if value},
    }


def model_arguments(job: ExportJob) -> dict[str, Any]:
    """What `from_pretrained` is told; the dtype by its name."""
    arguments: dict[str, Any] = {
        "dtype": job.recipe.weights_dtype,
        "attn_implementation": ATTENTION[job.recipe.attention],
    }
    if job.plan.estimate.model.trust_remote_code:
        arguments["trust_remote_code"] = True
    return arguments


def quantization_arguments(job: ExportJob) -> dict[str, Any]:
    """The fields of BitsAndBytesConfig; empty where nothing is quantized. torchao's int8 is told by the same word."""
    kind = job.recipe.quantization
    if kind == "none":
        return {}
    if kind == "int8":
        return {"load_in_8bit": True}
    return {
        "load_in_4bit": True,
        "bnb_4bit_quant_type": kind.removesuffix("-dq"),
        "bnb_4bit_use_double_quant": kind.endswith("-dq"),
        "bnb_4bit_compute_dtype": job.recipe.autocast_dtype or job.recipe.weights_dtype,
    }


def read_back(job: ExportJob, **more: Any) -> dict[str, Any]:
    """What our reader of TrainingArguments makes of all of these together, and `more` of them."""
    data = {**training_arguments(job), **model_arguments(job), **quantization_arguments(job)}
    if job.recipe.adapts:
        data |= lora_arguments(job) | {"peft_type": "LORA"}
    return transformers_arguments.read(Values(Path("the exported script"), {**data, **more}))
