"""Gets the base model into memory the way the plan counted it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..planner.recipe import Recipe
from ..planner.tracing.model import build, make_config
from ..profiles.checkpoint import SAFETENSORS, weight_names
from ..profiles.errors import LplanError
from .job import Job


def load_base(job: Job) -> nn.Module:
    """The base model: mapped from its files in their own dtype, converted, quantized, or made in memory.

    Safetensors only; raises LplanError when the files are missing, corrupt, of another format or elsewhere.
    """
    if job.model is None or job.recipe.init == "random":
        torch.manual_seed(job.schedule.seed)
        with torch.device(job.recipe.device):
            return build(make_config(job.config, trust_remote_code=job.trust_remote_code), job.recipe)
    from transformers import AutoModelForCausalLM

    weight_names(Path(job.model), SAFETENSORS)
    try:
        model: nn.Module = AutoModelForCausalLM.from_pretrained(
            job.model,
            dtype=getattr(torch, job.recipe.weights_dtype),
            attn_implementation=_ATTENTION[job.recipe.attention],
            use_safetensors=True,
            trust_remote_code=job.trust_remote_code,
            **on_the_device(job.recipe),
        )
    except Exception as error:
        line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise LplanError(
            f"the weights of {job.model} cannot be loaded: {line}", hint="check its safetensors files"
        ) from error
    return model


_ATTENTION = {"sdpa": None, "eager": "eager", "flash": "flash_attention_2"}


def _int8_on_a_cpu() -> Any:
    from torchao.quantization import Int8WeightOnlyConfig
    from transformers import TorchAoConfig

    return TorchAoConfig(Int8WeightOnlyConfig())


def on_the_device(recipe: Recipe) -> dict[str, Any]:
    """What sends every weight to the GPU as it is read, packed if it is to be; on a CPU, what packs it."""
    if recipe.device == "cpu":
        return {} if recipe.quantization == "none" else {"quantization_config": _int8_on_a_cpu()}
    where: dict[str, Any] = {"device_map": {"": 0}}
    if recipe.quantization == "none":
        return where
    from transformers import BitsAndBytesConfig

    if recipe.quantization == "int8":
        return {**where, "quantization_config": BitsAndBytesConfig(load_in_8bit=True)}
    kind, _, double = recipe.quantization.partition("-")
    packed = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type=kind, bnb_4bit_use_double_quant=bool(double),
        bnb_4bit_compute_dtype=getattr(torch, recipe.weights_dtype),
    )  # fmt: skip
    return {**where, "quantization_config": packed}


def prepared(model: nn.Module, recipe: Recipe) -> nn.Module:
    """The base as adapters find it: what is not quantized in fp32, if the recipe says so."""
    if recipe.quantization == "none" or not recipe.kbit_preparation:
        return model
    from peft import prepare_model_for_kbit_training

    return prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)  # type: ignore[no-any-return]
