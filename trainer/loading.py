"""Gets the base model into memory the way the plan counted it."""

from __future__ import annotations

import torch
from torch import nn

from ..planner.tracing.model import attention_of, build, make_config
from ..profiles.errors import LplanError
from .job import Job


def load_base(job: Job) -> nn.Module:
    """The base model: mapped from its files in their own dtype, converted, or made in memory.

    Safetensors only; raises LplanError when the files are missing, corrupt or of another format.
    """
    if job.model is None or job.recipe.init == "random":
        torch.manual_seed(job.schedule.seed)
        return build(make_config(job.config, trust_remote_code=job.trust_remote_code), job.recipe)
    from transformers import AutoModelForCausalLM

    try:
        model: nn.Module = AutoModelForCausalLM.from_pretrained(
            job.model,
            dtype=getattr(torch, job.recipe.weights_dtype),
            attn_implementation=attention_of(job.recipe),
            use_safetensors=True,
            trust_remote_code=job.trust_remote_code,
        )
    except Exception as error:
        line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise LplanError(
            f"the weights of {job.model} cannot be loaded: {line}", hint="check its safetensors files"
        ) from error
    return model
