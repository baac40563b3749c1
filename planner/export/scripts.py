"""Complete training scripts for transformers with PEFT, and for TRL: templates filled with a plan's values."""

from __future__ import annotations

from importlib import resources
from pprint import pformat
from textwrap import wrap
from typing import Any

from ..allocator import environment_of
from ..chat import LLAMA_2
from ..recipe import ADAPTER_KNOBS, LOSS_CHUNK
from .arguments import (
    lora_arguments,
    model_arguments,
    quantization_arguments,
    read_back,
    training_arguments,
)
from .job import ExportJob

_WIDTH = 100
_TRAINERS = {
    "full": "Trainer",
    "supervised": "SupervisedTrainer",
    "chunked": "ChunkedTrainer",
    "fused": "Trainer",
}


def hf_script(job: ExportJob) -> tuple[str, dict[str, str]]:
    """A script for transformers' Trainer with PEFT, with the plan's own loss path; and what it takes otherwise."""
    recipe = job.recipe
    kept = {knob: job.planned(knob) for knob in (*_HF_SCRIPT_KEEPS, *ADAPTER_KNOBS)}
    unsaid = job.unsaid(read_back(job), **kept)
    arguments = {**training_arguments(job), "remove_unused_columns": False}
    if recipe.padding == "padded":
        arguments["train_sampling_strategy"] = "group_by_length"
    losses = "" if _TRAINERS[recipe.loss] == "Trainer" else "\n\n" + _template(f"loss_{recipe.loss}").rstrip()
    text = _filled(
        "hf_script", job, unsaid, _HF_KEEPS,
        ARGUMENTS=_dict(arguments), CASTING=_template("casting") if _casts(job) else "",
        LOSSES=losses, TRAINER=_TRAINERS[recipe.loss],
        MULTIPLE=repr(recipe.pad_to_multiple_of if recipe.pad_to_multiple_of > 1 else None),
        CHUNK=str(LOSS_CHUNK), RANDOM=repr(recipe.init == "random"), STOP_CASTING=repr(_casts(job)),
        PREPARE=repr(recipe.quantization != "none" and recipe.kbit_preparation),
        FP32_ADAPTERS=repr(recipe.adapter_dtype == "fp32"),
    )  # fmt: skip
    return text, unsaid


def sft_script(job: ExportJob) -> tuple[str, dict[str, str]]:
    """A script for TRL's SFTTrainer; and what it takes otherwise than planned."""
    recipe = job.recipe
    read = read_back(job, max_length=recipe.seq_len)
    forms = {knob: job.planned(knob) for knob in ADAPTER_KNOBS}
    unsaid = job.unsaid(read, **forms, loss="TRL's own", allocator=recipe.allocator)
    arguments = {
        **training_arguments(job),
        "max_length": recipe.seq_len,
        "packing": False,
        "completion_only_loss": True,
        "pad_to_multiple_of": recipe.pad_to_multiple_of if recipe.pad_to_multiple_of > 1 else None,
        "model_init_kwargs": model_arguments(job),
    }
    if recipe.padding == "padded":
        arguments["train_sampling_strategy"] = "group_by_length"
    return _filled("sft_script", job, unsaid, _SFT_KEEPS, ARGUMENTS=_dict(arguments)), unsaid


_HF_SCRIPT_KEEPS = (
    "loss", "input_casting", "allocator", "init", "adapter_dtype", "kbit_preparation", "seq_len",
)  # fmt: skip
"""Knobs that the script holds beside the Trainer's arguments."""
_HF_KEEPS = "Kept: the loss path, the adapters' casting, the allocator, and batches of similar lengths."
_SFT_KEEPS = "Kept: the allocator, and batches of similar lengths."


def _casts(job: ExportJob) -> bool:
    return job.recipe.adapts and not job.recipe.input_casting


def _filled(name: str, job: ExportJob, unsaid: dict[str, str], keeps: str, **values: str) -> str:
    recipe = job.recipe
    versions = job.plan.estimate.versions
    values |= {
        "HEAD": "\n".join(_head(job, unsaid, keeps)),
        "ENVIRONMENT": _dict(environment_of(recipe.allocator, threads=recipe.threads)),
        "VERSIONS": " ".join(
            f"{p}=={versions[p].split('+')[0]}" for p in ("torch", "transformers", "peft") if p in versions
        ),
        "MODEL": repr(job.model),
        "SEQ_LEN": str(recipe.seq_len),
        "THREADS": str(recipe.threads),
        "SEED": str(job.schedule.seed),
        "MODEL_ARGUMENTS": _dict(model_arguments(job)),
        "LORA": _dict(lora_arguments(job)) if recipe.adapts else "None",
        "QUANTIZATION": _dict(quantization_arguments(job)),
        "LLAMA_2": repr(LLAMA_2),
        "TRUST": repr(job.plan.estimate.model.trust_remote_code),
    }
    text = _template(name)
    for key, value in values.items():
        text = text.replace(f"@@{key}@@", value)
    return text


def _head(job: ExportJob, unsaid: dict[str, str], keeps: str) -> list[str]:
    lines = [*job.summary(), keeps]
    lines += [f"Otherwise than planned: {knob.replace('_', ' ')}: {why}." for knob, why in unsaid.items()]
    return [part for line in lines for part in wrap(line, _WIDTH)]


def _dict(values: dict[str, Any]) -> str:
    return pformat(values, sort_dicts=False, width=_WIDTH) if values else "{}"


def _template(name: str) -> str:
    return resources.files(__package__).joinpath(f"{name}.template").read_text(encoding="utf-8")
