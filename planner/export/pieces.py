"""Lines of a script that some plans need and others don't: no script holds what its plan doesn't use."""

from __future__ import annotations

from importlib import resources
from pprint import pformat
from typing import Any

from ..recipe import LOSS_CHUNK, Recipe
from .arguments import quantization_arguments
from .job import ExportJob

WIDTH = 100
TRAINERS = {
    "full": "Trainer",
    "supervised": "SupervisedTrainer",
    "chunked": "ChunkedTrainer",
    "fused": "Trainer",
}
"""The class that a script trains with, by loss."""
_PEFT = ("LoraConfig", "get_peft_model", "prepare_model_for_kbit_training")


def template(name: str) -> str:
    """A file of this folder."""
    return resources.files(__package__).joinpath(f"{name}.template").read_text(encoding="utf-8")


def literal(values: dict[str, Any]) -> str:
    """A dictionary as a script has it."""
    return pformat(values, sort_dicts=False, width=WIDTH) if values else "{}"


def definitions(*texts: str) -> str:
    """Classes and functions one after the other, behind what comes before."""
    return "".join(f"\n\n\n{text.strip()}" for text in texts if text)


def imports(code: str) -> str:
    """The import lines of `code` beside those that every script has."""
    peft = ", ".join(name for name in _PEFT if f"{name}(" in code)
    lines = (
        ("F." in code, "import torch.nn.functional as F\n"),
        (bool(peft), f"from peft import {peft}\n"),
        ("checkpoint(" in code, "from torch.utils.checkpoint import checkpoint\n"),
    )
    return "".join(line for used, line in lines if used)


def loss(recipe: Recipe) -> str:
    """The Trainer that scores as the recipe does; nothing where transformers' own does."""
    return (
        ""
        if TRAINERS[recipe.loss] == "Trainer"
        else template(f"loss_{recipe.loss}").replace("@@CHUNK@@", str(LOSS_CHUNK))
    )


def casting(recipe: Recipe) -> str:
    """What keeps inputs of adapters in their own dtype."""
    return template("casting") if casts(recipe) else ""


def casts(recipe: Recipe) -> bool:
    """Whether inputs of adapters stay in their own dtype."""
    return recipe.adapts and not recipe.input_casting


def quantization(job: ExportJob) -> str:
    """The function that says how linears are packed as they are read."""
    if job.recipe.quantization == "none":
        return ""
    if job.recipe.device == "cpu":
        return template("quantized_torchao")
    return template("quantized_bitsandbytes").replace(
        "@@QUANTIZATION@@", literal(quantization_arguments(job))
    )


def quantized(recipe: Recipe, arguments: str) -> list[str]:
    """The line that has `arguments` of from_pretrained hold it."""
    line = f'    {arguments}["quantization_config"] = quantization()'
    return [] if recipe.quantization == "none" else [line]


def loading(recipe: Recipe) -> str:
    """The lines that make the base model."""
    made = "AutoModelForCausalLM.from_pretrained(MODEL, **arguments)"
    if recipe.init == "random":
        made = "AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(MODEL), **arguments)"
    return "\n".join([*quantized(recipe, "arguments"), f"    model = {made}"])


def wrapping(recipe: Recipe) -> str:
    """The lines that prepare the base model and give it adapters."""
    lines = []
    if recipe.quantization != "none" and recipe.kbit_preparation:
        lines.append("model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)")
    if recipe.adapts:
        cast = recipe.adapter_dtype == "fp32"
        lines.append(f"model = get_peft_model(model, LoraConfig(**LORA), autocast_adapter_dtype={cast})")
    if casts(recipe):
        lines.append("stop_input_casting(model)")
    return "".join(f"    {line}\n" for line in lines)
