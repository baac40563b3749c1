"""axolotl's YAML."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..foreign import axolotl
from ..foreign.values import Values
from .arguments import ATTENTION
from .job import MESSAGES, OPTIMIZERS, ExportJob
from .yaml_text import yaml_text

_KERNELS = ("lora_mlp_kernel", "lora_qkv_kernel", "lora_o_kernel", "lora_embedding_kernel")
"""Triton kernels that axolotl takes by itself unless one of them is given (schemas/config.py,
`check_auto_enable_lora_kernels`): no plan counts them, and a CPU has none."""


def axolotl_yaml(job: ExportJob) -> tuple[str, dict[str, str]]:
    """The configuration, and what axolotl takes otherwise than planned."""
    data = _configuration(job)
    read = axolotl.read(Values(Path("the exported file"), data))
    unsaid = job.unsaid(read)
    return yaml_text(job, data, unsaid, "axolotl train this.yml"), unsaid


def _configuration(job: ExportJob) -> dict[str, Any]:
    recipe, schedule = job.recipe, job.schedule
    data: dict[str, Any] = {"base_model": job.model}
    if job.plan.estimate.model.trust_remote_code:
        data["trust_remote_code"] = True
    data |= _adapters(job)
    data |= {
        "datasets": [{"path": MESSAGES, "type": "chat_template", "field_messages": "messages"}],
        "train_on_inputs": False,
        "sequence_len": recipe.seq_len,
        "sample_packing": False,
        "pad_to_sequence_len": False,
        "group_by_length": recipe.padding == "padded",
        "micro_batch_size": recipe.batch_size,
        "gradient_accumulation_steps": recipe.accumulation,
        "num_epochs": schedule.epochs,
        "optimizer": OPTIMIZERS.get(recipe.optimizer, "sgd"),
        "learning_rate": schedule.learning_rate,
        "lr_scheduler": schedule.scheduler,
        "warmup_steps": schedule.warmup_steps,
        "weight_decay": schedule.weight_decay,
        "max_grad_norm": job.max_grad_norm,
        "bf16": recipe.precision.startswith("bf16"),
        "fp16": recipe.precision.startswith("fp16"),
        "gradient_checkpointing": recipe.checkpoint_period > 0,
        "attn_implementation": ATTENTION[recipe.attention],
        "seed": schedule.seed,
        "val_set_size": 0.0,
        "output_dir": "adapter",
    }
    if recipe.checkpoint_period:
        data["gradient_checkpointing_kwargs"] = {"use_reentrant": False}
    return data if schedule.max_steps is None else {**data, "max_steps": schedule.max_steps}


def _adapters(job: ExportJob) -> dict[str, Any]:
    recipe = job.recipe
    if not recipe.adapts:
        return {}
    data: dict[str, Any] = {
        "adapter": recipe.method,
        "lora_r": recipe.rank,
        "lora_alpha": recipe.alpha,
        "lora_dropout": recipe.dropout,
    }
    everywhere = job.targets == "all-linear"
    data |= {"lora_target_linear": True} if everywhere else {"lora_target_modules": job.targets}
    more = {
        "lora_target_parameters": list(recipe.target_parameters),
        "lora_modules_to_save": list(recipe.modules_to_save),
        "peft_trainable_token_indices": list(recipe.trainable_tokens),
        "lora_rank_pattern": dict(recipe.rank_pattern),
        "lora_alpha_pattern": dict(recipe.alpha_pattern),
        "peft_use_dora": recipe.dora,
        "peft_use_rslora": recipe.rslora,
    }
    data |= {name: value for name, value in more.items() if value} | dict.fromkeys(_KERNELS, False)
    if recipe.quantization == "int8":
        # axolotl's qlora is 4 bits and nothing else
        data |= {"adapter": "lora", "load_in_8bit": True}
    elif recipe.quantization != "none":
        data["load_in_4bit"] = True
    if recipe.adapter_dtype == "base":
        data["peft_autocast_adapter_dtype"] = False
    return data
