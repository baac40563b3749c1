"""Files about how a script is started: accelerate's configuration, DeepSpeed's, and the environment."""

from __future__ import annotations

import json
from shlex import quote
from typing import Any

from ..allocator import environment_of
from .job import ExportJob
from .yaml_text import yaml_text

_SCRIPT = "the script's: `lplan export --to hf-script` writes one"


def accelerate_yaml(job: ExportJob) -> tuple[str, dict[str, str]]:
    """A configuration for one process, as `accelerate config` writes it; everything else belongs to the script."""
    recipe = job.recipe
    data: dict[str, Any] = {
        "compute_environment": "LOCAL_MACHINE",
        "debug": False,
        "distributed_type": "NO",
        "downcast_bf16": "no",
        "dynamo_config": {},
        "enable_cpu_affinity": False,
        "gpu_ids": None if recipe.device == "cpu" else "0",
        "machine_rank": 0,
        "main_training_function": "main",
        "mixed_precision": _autocast(job),
        "num_machines": 1,
        "num_processes": 1,
        "rdzv_backend": "static",
        "same_network": True,
        "tpu_env": [],
        "tpu_use_cluster": False,
        "tpu_use_sudo": False,
        "use_cpu": recipe.device == "cpu",
    }
    data = {name: value for name, value in data.items() if value not in (None, {})}
    unsaid = {"everything but the precision": _SCRIPT}
    return yaml_text(job, data, {}, "accelerate launch --config_file this.yml train.py"), unsaid


def deepspeed_json(job: ExportJob) -> tuple[str, dict[str, str]]:
    """A configuration for one device without ZeRO; adapters and the learning rate's course stay with the script."""
    recipe = job.recipe
    data: dict[str, Any] = {
        "train_micro_batch_size_per_gpu": recipe.batch_size,
        "gradient_accumulation_steps": recipe.accumulation,
        "train_batch_size": recipe.effective_batch,
        "gradient_clipping": job.max_grad_norm,
        "bf16": {"enabled": recipe.precision.startswith("bf16")},
        "fp16": {"enabled": recipe.precision.startswith("fp16")},
        "zero_optimization": {"stage": 0},
        "steps_per_print": 1,
    }
    unsaid = {"adapters, data, optimizer and schedule": _SCRIPT}
    if recipe.precision == "bf16":
        unsaid["precision"] = (
            "beside this file the Trainer wants bf16=True, the only value that it takes with DeepSpeed's"
        )
    if recipe.precision.endswith("-amp"):
        unsaid["precision"] = (
            "DeepSpeed turns the weights themselves to 16 bits, where the plan computes in them alone"
        )
    if recipe.precision in ("bf16", "fp16"):
        unsaid["memory"] = "DeepSpeed keeps fp32 copies of what is trained, which the plan does not count"
    return json.dumps(data, indent=2) + "\n", unsaid


def environment(job: ExportJob) -> tuple[str, dict[str, str]]:
    """Lines for a shell to source: threads, and how freed memory is given back."""
    recipe = job.recipe
    settings = environment_of(recipe.allocator, threads=recipe.threads)
    lines = [f"# {line}" for line in job.summary()]
    lines += [f"export {name}={quote(value)}" for name, value in settings.items()]
    return "\n".join(lines) + "\n", {"everything but the environment": _SCRIPT}


def _autocast(job: ExportJob) -> str:
    precision = job.recipe.precision
    if precision == "fp16":
        return "fp16"  # the gradient scaler comes with it
    return precision.removesuffix("-amp") if precision.endswith("-amp") else "no"
