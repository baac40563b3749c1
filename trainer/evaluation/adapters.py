"""Adapters and their bases: where they are, and a base with one or several of them on, switched at run time."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...profiles.errors import LplanError, UsageError
from ..job import JOB, Job

if TYPE_CHECKING:
    from torch import nn

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_NAME_A_RUN = "name a run folder, or an adapter's folder"


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """An adapter, or after full fine-tuning a model, with the run that it comes from, if it comes from one."""

    name: str
    folder: Path
    run: Path | None
    job: Job | None

    @property
    def adapts(self) -> bool:
        """Whether it goes on a base, and is no model of its own."""
        return self.job is None or self.job.recipe.adapts


def find_source(path: Path) -> Source:
    """What a run's or an adapter's folder holds. Raises UsageError where that is nothing, or not yet."""
    if not path.is_dir():
        raise UsageError(f"there is no folder {path}", hint=_NAME_A_RUN)
    run = next((folder for folder in (path, path.parent) if (folder / JOB).is_file()), None)
    if run is None:
        require_adapter(path)
        return Source(name=path.name or str(path.resolve().name), folder=path, run=None, job=None)
    job, result = Job.read(run), run / "adapter"
    if not result.is_dir():
        raise UsageError(
            f"the run {run} has no adapter: it has not ended, or has failed", hint=f"see `lplan why {run}`"
        )
    if job.recipe.adapts:
        require_adapter(result)
    return Source(name=run.resolve().name, folder=result, run=run, job=job)


def require_adapter(folder: Path) -> None:
    """Raises UsageError where a folder holds no adapter, or one that is not safetensors."""
    if not (folder / CONFIG).is_file():
        raise UsageError(f"{folder} holds no adapter ({CONFIG}, {WEIGHTS})", hint=_NAME_A_RUN)
    if not (folder / WEIGHTS).is_file():
        raise UsageError(f"{folder} holds no {WEIGHTS}", hint="pickled adapters are not read: save it anew")


def read_config(folder: Path) -> dict[str, Any]:
    """PEFT's own configuration of an adapter. Raises UsageError without an adapter, LplanError if it is damaged."""
    require_adapter(folder)
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise LplanError(f"{folder / CONFIG} is no JSON: {error}", hint="save the adapter again") from error
    if not isinstance(config, dict):
        raise LplanError(f"{folder / CONFIG} is no JSON object", hint="save the adapter again")
    return config


def base_of(adapter: Path) -> Path:
    """The folder of the base that an adapter names. Raises UsageError where that is none here."""
    base = Path(str(read_config(adapter).get("base_model_name_or_path")))
    if not base.is_dir():
        raise UsageError(f"the base {base} of {adapter} is not a folder here", hint="say where: --model DIR")
    return base


def load_run(folder: Path, job: Job) -> nn.Module:
    """The model of a run folder in evaluation mode; after full fine-tuning the trained model itself."""
    from ..loading import load_base

    source = find_source(folder)
    if not source.adapts:
        recipe = replace(job.recipe, init="pretrained")
        return load_base(replace(job, model=str(source.folder), recipe=recipe)).eval()
    return with_adapter(load_base(job), source.folder)


def with_adapter(base: nn.Module, folder: Path, name: str = "default") -> nn.Module:
    """The base with an adapter of PEFT's format. Raises UsageError or LplanError."""
    from peft import PeftModel

    require_matching(base, folder)
    try:
        model: nn.Module = PeftModel.from_pretrained(base, str(folder), adapter_name=name)
    except Exception as error:
        raise _another_model(folder, error) from error
    return model.eval()


def add_adapter(model: Any, folder: Path, name: str) -> None:
    """One more adapter on a model that has one. Raises UsageError or LplanError."""
    require_matching(model.get_base_model(), folder)
    try:
        model.load_adapter(str(folder), adapter_name=name)
    except Exception as error:
        raise _another_model(folder, error) from error
    model.eval()


def require_matching(base: nn.Module, folder: Path) -> None:
    """Raises LplanError where an adapter has LoRA matrices for modules that the base lacks; PEFT would only warn."""
    from safetensors import SafetensorError, safe_open

    require_adapter(folder)
    try:
        with safe_open(folder / WEIGHTS, framework="pt") as tensors:
            names = [name for name in tensors.keys() if ".lora_A." in name]  # noqa: SIM118 - no mapping
    except SafetensorError as error:
        raise LplanError(f"{folder / WEIGHTS} is broken: {error}", hint="save the adapter again") from error
    there = {name.replace(".base_layer", "") for name, _ in base.named_modules()}
    for name in names:
        module = name.removeprefix("base_model.model.").split(".lora_A.")[0]
        if module.removesuffix(".base_layer") not in there:
            raise _another_model(folder, f"it has no {module}")


def _another_model(folder: Path, reason: Exception | str) -> LplanError:
    lines = [line.strip() for line in str(reason).splitlines() if line.strip()] or [type(reason).__name__]
    # The line that names a shape is the last of torch's message.
    return LplanError(
        f"the adapter {folder} does not go with this base: {lines[-1]}", hint="is it of another model?"
    )
