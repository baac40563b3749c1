"""A finished run's model: its base with the adapter on, which can be switched off."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from torch import nn

from ...profiles.errors import LplanError, UsageError
from ..job import Job
from ..loading import load_base

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


def load_run(folder: Path, job: Job) -> nn.Module:
    """The model of a run folder in evaluation mode; after full fine-tuning the trained model itself."""
    result = folder / "adapter"
    if not result.is_dir():
        raise UsageError(f"{folder} holds no adapter", hint="the run has not ended, or failed: see its log")
    if not job.recipe.adapts:
        recipe = replace(job.recipe, init="pretrained")
        return load_base(replace(job, model=str(result), recipe=recipe)).eval()
    return with_adapter(load_base(job), result)


def require_adapter(folder: Path) -> None:
    """Raises UsageError where a folder holds no adapter, or one that is not safetensors."""
    if not (folder / CONFIG).is_file():
        raise UsageError(f"{folder} holds no adapter", hint="name a run folder, or its adapter folder")
    if not (folder / WEIGHTS).is_file():
        raise UsageError(f"{folder} holds no {WEIGHTS}", hint="pickled adapters are not read: save it anew")


def with_adapter(base: nn.Module, folder: Path, name: str = "default") -> nn.Module:
    """The base with an adapter of PEFT's format. Raises UsageError or LplanError."""
    from peft import PeftModel

    require_adapter(folder)
    try:
        model: nn.Module = PeftModel.from_pretrained(base, str(folder), adapter_name=name)
    except Exception as error:
        line = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise LplanError(
            f"the adapter {folder} does not go with this base: {line}", hint="is it of another model?"
        ) from error
    return model.eval()
