"""Complete training scripts for transformers with PEFT, and for TRL: templates filled with a plan's values."""

from __future__ import annotations

from textwrap import wrap

from ..allocator import environment_of
from ..chat import LLAMA_2
from ..packages import packages_beside
from ..recipe import ADAPTER_KNOBS
from . import pieces
from .arguments import lora_arguments, model_arguments, read_back, training_arguments
from .job import ExportJob


def hf_script(job: ExportJob) -> tuple[str, dict[str, str]]:
    """A script for transformers' Trainer with PEFT, with the plan's own loss path; and what it takes otherwise."""
    recipe = job.recipe
    kept = {knob: job.planned(knob) for knob in (*_HF_SCRIPT_KEEPS, *ADAPTER_KNOBS)}
    unsaid = job.unsaid(read_back(job), **kept)
    arguments = {**training_arguments(job), "remove_unused_columns": False}
    if recipe.padding == "padded":
        arguments["train_sampling_strategy"] = "group_by_length"
    parts = pieces.definitions(pieces.loss(recipe), pieces.casting(recipe), pieces.quantization(job))
    wrapped = pieces.wrapping(recipe)
    text = _filled(
        "hf_script", job, unsaid, _HF_KEEPS,
        ARGUMENTS=pieces.literal(arguments), TRAINER=pieces.TRAINERS[recipe.loss],
        MULTIPLE=repr(recipe.pad_to_multiple_of if recipe.pad_to_multiple_of > 1 else None),
        PARTS=parts, IMPORTS=pieces.imports(parts + wrapped), LOADED=pieces.loading(recipe), WRAPPED=wrapped,
        CONFIG="    AutoConfig,\n" if recipe.init == "random" else "",
    )  # fmt: skip
    return text, unsaid


def sft_script(job: ExportJob) -> tuple[str, dict[str, str]]:
    """A script for TRL's SFTTrainer; and what it takes otherwise than planned."""
    recipe = job.recipe
    read = read_back(job, max_length=recipe.seq_len)
    forms = {knob: job.planned(knob) for knob in ADAPTER_KNOBS}
    if recipe.quantization != "none" and recipe.device == "cpu":
        # TRL casts adapters over bitsandbytes' weights alone; k-bit preparation casts nothing over torchao's
        forms |= {"adapter_dtype": "fp32", "kbit_preparation": recipe.kbit_preparation}
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
    adapters = "LoraConfig(**LORA)" if recipe.adapts else "None"
    lines = pieces.quantized(recipe, 'ARGUMENTS["model_init_kwargs"]')
    text = _filled(
        "sft_script", job, unsaid, _SFT_KEEPS,
        ARGUMENTS=pieces.literal(arguments), PARTS=pieces.definitions(pieces.quantization(job)),
        IMPORTS=pieces.imports(adapters), QUANTIZED="".join(f"\n{line}" for line in lines), ADAPTERS=adapters,
    )  # fmt: skip
    return text, unsaid


_HF_SCRIPT_KEEPS = (
    "loss", "input_casting", "allocator", "init", "adapter_dtype", "kbit_preparation", "seq_len",
)  # fmt: skip
"""Knobs that the script holds beside the Trainer's arguments."""
_HF_KEEPS = "Kept: the loss path, the adapters' casting, the allocator, and batches of similar lengths."
_SFT_KEEPS = "Kept: the allocator, and batches of similar lengths."


def _filled(name: str, job: ExportJob, unsaid: dict[str, str], keeps: str, **values: str) -> str:
    recipe = job.recipe
    versions = job.plan.estimate.versions
    values |= {
        "HEAD": "\n".join(_head(job, unsaid, keeps)),
        "ENVIRONMENT": pieces.literal(environment_of(recipe.allocator, threads=recipe.threads)),
        "VERSIONS": " ".join(
            f"{p}=={versions[p].split('+')[0]}" for p in ("torch", "transformers", "peft") if p in versions
        ),
        "MODEL": repr(job.model),
        "SEQ_LEN": str(recipe.seq_len),
        "THREADS": str(recipe.threads),
        "SEED": str(job.schedule.seed),
        "MODEL_ARGUMENTS": pieces.literal(model_arguments(job)),
        "LORA": f"LORA = {pieces.literal(lora_arguments(job))}\n" if recipe.adapts else "",
        "BESIDE": "".join(f" {package}" for package in packages_beside(recipe)),
        "LLAMA_2": repr(LLAMA_2),
        "TRUST": repr(job.plan.estimate.model.trust_remote_code),
    }
    text = pieces.template(name)
    for key, value in values.items():
        text = text.replace(f"@@{key}@@", value)
    return text


def _head(job: ExportJob, unsaid: dict[str, str], keeps: str) -> list[str]:
    lines = [*job.summary(), keeps]
    lines += [f"Otherwise than planned: {knob.replace('_', ' ')}: {why}." for knob, why in unsaid.items()]
    return [part for line in lines for part in wrap(line, pieces.WIDTH)]
