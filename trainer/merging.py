"""An adapter into its base, without ever holding the model: shard files are copied and patched in place.

A merged weight is W + scaling * B @ A in fp32, rounded once to the base's dtype; with DoRA its rows are then
scaled to the learned magnitudes (Liu et al. 2024). Weights are read, changed and written in blocks of rows.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from ..planner.merging import BLOCK_BYTES, BLOCKS
from ..profiles.errors import DoesNotFitError, LplanError, UsageError
from ..profiles.units import MIB, format_size

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_SMALLEST_BLOCK_BYTES = MIB
_BESIDE = ("*.json", "*.jinja", "*.txt", "*.model")
_DTYPES = {"BF16": "bfloat16", "F16": "float16", "F32": "float32"}
_NOT_MERGED = {
    "lora_bias": "biases in its updates", "target_parameters": "updates of bare parameters",
    "trainable_token_indices": "trained tokens", "layer_replication": "repeated layers",
    "alora_invocation_tokens": "an activation by tokens", "use_qalora": "QALoRA", "use_bdlora": "BD-LoRA",
    "kasa_config": "KASA", "arrow_config": "Arrow", "monteclora_config": "MonteCLoRA", "velora_config": "VeLoRA",
}  # fmt: skip
_BY_PEFT = "PEFT's merge_and_unload() may know it, with the whole model in memory"


@dataclass(frozen=True, kw_only=True, slots=True)
class MergePlan:
    """What merging will do. `peak_bytes` is the process's, libraries included."""

    tensors: int
    block_bytes: int
    peak_bytes: int


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a tensor's bytes are."""

    file: str
    start: int
    shape: tuple[int, ...]
    dtype: str


def merge(base: Path, adapter: Path, output: Path, *, plan: MergePlan) -> None:
    """Write the merged checkpoint with tokenizer and configuration; the folder appears complete or not at all."""
    aside = output.with_name(f".{output.name}.part")
    shutil.rmtree(aside, ignore_errors=True)
    try:
        aside.mkdir(parents=True)
        for pattern in (*_BESIDE, "*.safetensors"):
            for file in base.glob(pattern):
                shutil.copyfile(file, aside / file.name)
        _patch(base, adapter, aside, plan.block_bytes)
        aside.rename(output)
    except OSError as error:
        raise LplanError(
            f"cannot write {output}: {error.strerror}", hint="name another by --output"
        ) from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def plan_merge(base: Path, adapter: Path, *, libraries_bytes: int, ram_bytes: int | None) -> MergePlan:
    """What it takes.

    Raises UsageError or LplanError for what cannot be merged, DoesNotFitError for too little memory.
    """
    config = adapter_config(adapter)
    updates = list(_updates(adapter, config, _places(base)))
    fixed_bytes = libraries_bytes + (adapter / WEIGHTS).stat().st_size
    block_bytes = BLOCK_BYTES
    if ram_bytes is not None:
        block_bytes = min(block_bytes, (ram_bytes - fixed_bytes) // BLOCKS)
    if block_bytes < _SMALLEST_BLOCK_BYTES:
        needed = format_size(fixed_bytes + BLOCKS * _SMALLEST_BLOCK_BYTES)
        raise DoesNotFitError(f"merging needs {needed}, libraries included", hint=f"give it --ram {needed}")
    return MergePlan(
        tensors=len(updates), block_bytes=block_bytes, peak_bytes=fixed_bytes + BLOCKS * block_bytes
    )


def adapter_config(adapter: Path) -> dict[str, Any]:
    """PEFT's own configuration. Raises UsageError for a folder without one, or whose adapter is no plain LoRA."""
    if not (adapter / CONFIG).is_file() or not (adapter / WEIGHTS).is_file():
        raise UsageError(
            f"{adapter} holds no adapter ({CONFIG}, {WEIGHTS})", hint="name a run folder or an adapter's"
        )
    try:
        config: dict[str, Any] = json.loads((adapter / CONFIG).read_text(encoding="utf-8"))
    except ValueError as error:
        raise LplanError(f"{adapter / CONFIG} is no JSON: {error}", hint="save the adapter again") from error
    if config.get("peft_type") != "LORA":
        raise UsageError(f"{config.get('peft_type')} adapters are not merged", hint=_BY_PEFT)
    for name, what in _NOT_MERGED.items():
        if config.get(name):
            raise UsageError(f"this adapter has {what} ({name}): it is not merged", hint=_BY_PEFT)
    return config


@dataclass(frozen=True, slots=True)
class _Update:
    """The adapter's tensors for one weight of the base; a `whole` weight is replaced."""

    place: _Place
    names: Mapping[str, str]
    scaling: float


def _updates(adapter: Path, config: Mapping[str, Any], places: Mapping[str, _Place]) -> Iterator[_Update]:
    """Every change. Raises UsageError where a tensor has no place in the base's files."""
    grouped: dict[str, dict[str, str]] = {}
    with _opened(adapter / WEIGHTS) as tensors:
        names = list(tensors.keys())
        ranks = {name: tensors.get_slice(name).get_shape()[0] for name in names if ".lora_A." in name}
    for name in names:
        path = name.removeprefix("base_model.model.")
        for kind in ("lora_A", "lora_B", "lora_magnitude_vector"):
            if f".{kind}" in path:
                grouped.setdefault(path.split(f".{kind}")[0] + ".weight", {})[kind] = name
                break
        else:
            grouped.setdefault(path, {})["whole"] = name
    for path, parts in grouped.items():
        if path not in places or "lora_embedding" in path:
            raise UsageError(
                f"the base's files have no weight {path} for the adapter to change", hint=_BY_PEFT
            )
        if "lora_A" in parts and len(places[path].shape) != 2:
            raise UsageError(f"{path} is no matrix: its update is not merged", hint=_BY_PEFT)
        scaling = 0.0 if "whole" in parts else _scaling(config, path, ranks[parts["lora_A"]])
        yield _Update(places[path], parts, scaling)


def _scaling(config: Mapping[str, Any], path: str, rank: int) -> float:
    from peft.utils.other import get_pattern_key

    module, pattern = path.removesuffix(".weight"), config.get("alpha_pattern") or {}
    alpha = pattern.get(get_pattern_key(pattern.keys(), module), config["lora_alpha"])
    return float(alpha / (math.sqrt(rank) if config.get("use_rslora") else rank))


def _patch(base: Path, adapter: Path, output: Path, block_bytes: int) -> None:
    places = _places(base)
    config = adapter_config(adapter)
    transposed = _transposed(base)
    with _opened(adapter / WEIGHTS) as tensors:
        for update in _updates(adapter, config, places):
            parts = {kind: tensors.get_tensor(name).float() for kind, name in update.names.items()}
            with (output / update.place.file).open("r+b") as file:
                _rewrite(file, update, parts, block_bytes, transposed=transposed)


def _rewrite(
    file: BinaryIO, update: _Update, parts: Mapping[str, Any], block_bytes: int, *, transposed: bool
) -> None:
    import torch

    place, dtype = update.place, getattr(torch, _DTYPES[update.place.dtype])
    rows, row_numbers = place.shape[0], math.prod(place.shape[1:])
    step = max(1, block_bytes // (4 * row_numbers))
    for start in range(0, rows, step):
        stop = min(rows, start + step)
        offset = place.start + start * row_numbers * dtype.itemsize
        file.seek(offset)
        raw = bytearray(file.read((stop - start) * row_numbers * dtype.itemsize))
        weight = torch.frombuffer(raw, dtype=dtype).view(stop - start, *place.shape[1:]).float()
        merged = _merged(weight, update.scaling, parts, slice(start, stop), transposed=transposed).to(dtype)
        file.seek(offset)
        file.write(memoryview(merged.contiguous().view(torch.uint8).numpy()).cast("B"))


def _merged(weight: Any, scaling: float, parts: Mapping[str, Any], rows: slice, *, transposed: bool) -> Any:
    if "whole" in parts:
        return parts["whole"][rows]
    a, b = parts["lora_A"], parts["lora_B"]
    if transposed:
        return weight.addmm_(a.T[rows], b.T, alpha=scaling)
    weight.addmm_(b[rows], a, alpha=scaling)
    if "lora_magnitude_vector" in parts:
        weight *= (parts["lora_magnitude_vector"].flatten()[rows] / weight.norm(dim=1)).unsqueeze(1)
    return weight


def _transposed(base: Path) -> bool:
    """Whether the base's matrices are (in, out): GPT-2's Conv1D."""
    from transformers import AutoConfig

    return AutoConfig.from_pretrained(base).model_type in (
        "gpt2",
        "openai-gpt",
        "imagegpt",
        "decision_transformer",
    )


def _places(base: Path) -> dict[str, _Place]:
    """Every tensor of a checkpoint, by name. Raises UsageError for one without plain safetensors."""
    found: dict[str, _Place] = {}
    for path in sorted(base.glob("*.safetensors")):
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            try:
                header = json.loads(file.read(size))
            except ValueError as error:
                raise LplanError(f"{path} is no safetensors file", hint="download it again") from error
        header.pop("__metadata__", None)
        for name, entry in header.items():
            start = 8 + size + entry["data_offsets"][0]
            found[name] = _Place(path.name, start, tuple(entry["shape"]), entry["dtype"])
    if not found:
        raise UsageError(
            f"{base} holds no safetensors weights to merge into", hint="name the base by --model"
        )
    if odd := sorted({place.dtype for place in found.values()} - set(_DTYPES)):
        raise UsageError(
            f"the base's weights are {odd[0]}: an adapter is not merged into them", hint=_BY_PEFT
        )
    return found


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as tensors:
            yield tensors
    except SafetensorError as error:
        raise LplanError(f"{path} is broken: {error}", hint="save the adapter again") from error
