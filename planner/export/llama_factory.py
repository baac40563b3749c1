"""LLaMA-Factory's YAML."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..foreign import llama_factory
from ..foreign.values import Values
from .arguments import schedule_arguments
from .job import MESSAGES, OPTIMIZERS, ExportJob
from .yaml_text import yaml_text

_ATTENTION = {"sdpa": "sdpa", "eager": "disabled", "flash": "fa2"}
_DATA_SET = (
    "data/dataset_info.json has to name the data:",
    f'  {{"plan": {{"file_name": "{MESSAGES}", "formatting": "sharegpt", "columns": {{"messages": "messages"}},',
    '   "tags": {"role_tag": "role", "content_tag": "content", "user_tag": "user",',
    '            "assistant_tag": "assistant", "system_tag": "system"}}}',
)


def llama_factory_yaml(job: ExportJob) -> tuple[str, dict[str, str]]:
    """The configuration, and what LLaMA-Factory takes otherwise than planned."""
    data = _configuration(job)
    read = llama_factory.read(Values(Path("the exported file"), data))
    unsaid = job.unsaid(read)
    return yaml_text(job, data, unsaid, "llamafactory-cli train this.yml", *_DATA_SET), unsaid


def _configuration(job: ExportJob) -> dict[str, Any]:
    recipe = job.recipe
    data: dict[str, Any] = {
        "stage": "sft",
        "do_train": True,
        "model_name_or_path": job.model,
        "trust_remote_code": job.plan.estimate.model.trust_remote_code,
        **_adapters(job),
        "dataset": "plan",
        "dataset_dir": "data",
        "cutoff_len": recipe.seq_len,
        "packing": False,
        "per_device_train_batch_size": recipe.batch_size,
        "gradient_accumulation_steps": recipe.accumulation,
        **schedule_arguments(job),
        "optim": OPTIMIZERS.get(recipe.optimizer, "sgd"),
        **_precision(job),
        "disable_gradient_checkpointing": recipe.checkpoint_period == 0,
        "use_reentrant_gc": False,
        "flash_attn": _ATTENTION[recipe.attention],
        "seed": job.schedule.seed,
        "output_dir": "adapter",
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
    }
    if recipe.padding == "padded":
        data["train_sampling_strategy"] = "group_by_length"
    return data | ({"use_cpu": True} if recipe.device == "cpu" else {})


def _adapters(job: ExportJob) -> dict[str, Any]:
    recipe = job.recipe
    if not recipe.adapts:
        return {"finetuning_type": "full"}
    names = job.targets if isinstance(job.targets, list) else job.modules
    data: dict[str, Any] = {
        "finetuning_type": "lora",
        "lora_rank": recipe.rank,
        "lora_alpha": recipe.alpha,
        "lora_dropout": recipe.dropout,
        "lora_target": "all" if job.targets == "all-linear" else ",".join(names),
    }
    more = {
        "additional_target": ",".join(recipe.modules_to_save),
        "use_dora": recipe.dora,
        "use_rslora": recipe.rslora,
    }
    data |= {name: value for name, value in more.items() if value}
    if recipe.quantization != "none":
        data |= {"quantization_bit": 8 if recipe.quantization == "int8" else 4, "quantization_method": "bnb"}
    if recipe.quantization.startswith(("nf4", "fp4")):
        data["quantization_type"] = recipe.quantization.removesuffix("-dq")
        data["double_quantization"] = recipe.quantization.endswith("-dq")
    return data


def _precision(job: ExportJob) -> dict[str, bool]:
    """Trained weights are fp32 under `bf16`; `pure_bf16` is for a whole model in 16 bits, and asks a GPU for them
    (hparams/parser.py)."""
    recipe = job.recipe
    if recipe.precision == "bf16" and not recipe.adapts and recipe.device == "cuda":
        return {"pure_bf16": True}
    return {"bf16": recipe.precision.startswith("bf16"), "fp16": recipe.precision.startswith("fp16")}
