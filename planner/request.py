"""From what a user asked for to a complete recipe: given knobs stay, the rest takes its usual default."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from ..profiles.errors import UsageError
from ..profiles.gpu import BF16_CAPABILITY
from ..profiles.hardware import Device, Hardware
from ..profiles.model import ModelProfile
from .plan import Schedule
from .recipe import Recipe
from .selectors import PARSERS
from .tokens import TokenLengths, round_up

_USUAL_LENGTH = 512
_KNOBS = frozenset(field.name for field in fields(Recipe))
_SWITCHES = ("input_casting", "kbit_preparation", "rslora", "dora", "lora_bias", "clipping", "tf32")
_TIMING = frozenset(field.name for field in fields(Schedule))
_CONTEXT = ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "seq_length")
_TABLES = frozenset(
    ("biogpt", "codegen", "ctrl", "gpt2", "gpt_bigcode", "gpt_neo", "gptj", "openai-gpt", "opt")
)
"""Model types that look positions up in a table: there is no next one after the last."""


@dataclass(frozen=True, slots=True)
class Request:
    """A complete recipe and schedule, and which of their knobs the user named."""

    recipe: Recipe
    schedule: Schedule
    given: frozenset[str]


def make_request(
    asked: Mapping[str, Any],
    hardware: Hardware,
    usual: Mapping[str, Any] | None = None,
    *,
    device: Device = "cpu",
) -> Request:
    """The recipe and schedule of what was asked for (None: not asked); names that are no knobs are passed over.

    `effective_batch`, switches as on or off, and names, tokens and patterns as texts (planner.selectors) are
    understood besides Recipe's own; `usual` are a task's defaults. Every token carries loss until
    `fit_to_data` knows better. Raises UsageError for what cannot be, or is not available on the device.
    """
    given = {name: parsed(name, value) for name, value in asked.items() if value not in (None, ())}
    given |= _quantization(given)
    if "optimizer" in given.get("offload", ()):
        given = {"clipping": False, **given}
    if given.get("eval_logits", "none") != "none" and "eval_samples" not in given:
        raise UsageError(
            f"--eval-logits {given['eval_logits']} keeps more with every batch: of how many sequences is not said",
            hint="add --eval-samples N",
        )
    start = replace(
        Recipe(threads=max(1, hardware.cores), seq_len=_USUAL_LENGTH, **_usual_on(device, hardware)),
        **{**_of(usual or {}, _KNOBS), **_without_dropout(given)},
    )
    recipe = replace(start, **_of(given, _KNOBS))
    recipe = _with_batch(recipe, start, given.get("effective_batch"), batch_given="batch_size" in given)
    return Request(
        replace(recipe, supervised_len=recipe.seq_len),
        replace(Schedule(**_of(usual or {}, _TIMING)), **_of(given, _TIMING)),
        frozenset(given),
    )


def fit_to_data(request: Request, lengths: TokenLengths) -> Request:
    """The request with the sequence length, padding and supervised tokens that the data has.

    Raises UsageError for `--padding none` on data that needs it.
    """
    recipe = request.recipe
    one_by_one = recipe.batch_size == 1 and "batch_size" in request.given
    ragged = len(set(lengths.total)) > 1
    if recipe.padding == "none" and "padding" in request.given:
        if ragged and not one_by_one:
            raise UsageError(
                "--padding none is impossible: the sequences differ in length",
                hint="leave it out, or add --batch-size 1",
            )
        ragged = False
    multiple = lengths.bucket() if ragged else 1
    fitted = replace(
        recipe,
        seq_len=round_up(lengths.longest, multiple),
        pad_to_multiple_of=multiple,
        length_buckets=lengths.buckets(multiple),
        supervised_len=lengths.longest_supervised,
        padding=recipe.padding
        if recipe.padding == "packed"
        else "padded"
        if ragged or ("padding" in request.given and recipe.padding == "padded")
        else "none",
    )
    return replace(request, recipe=fitted)


def context_length(config: Mapping[str, Any]) -> int | None:
    """The longest sequence that a model was made for, as its config.json says; None where it does not."""
    for part in (config, *(value for value in config.values() if isinstance(value, Mapping))):
        for name in _CONTEXT:
            if isinstance(part.get(name), int) and part[name] > 0:
                return int(part[name])
    return None


def require_context(model: ModelProfile, seq_len: int | None) -> tuple[str, ...]:
    """What there is to say of a sequence length against the model's context.

    Raises UsageError where the model has no positions beyond it.
    """
    context = context_length(model.config)
    if seq_len is None or context is None or seq_len <= context:
        return ()
    if model.model_type in _TABLES:
        raise UsageError(
            f"{model.id} has positions for {context:,} tokens, not for {seq_len:,}",
            hint=f"at most --seq-len {context}",
        )
    return (f"sequences of {seq_len:,} tokens, beyond the {context:,} that the model was made for",)


def not_chunkable() -> UsageError:
    """For a chunked or fused loss on a model that changes its logits after the head."""
    return UsageError(
        "the chunked and the fused loss need logits as the head makes them, and this model changes them afterwards",
        hint="take --loss supervised or full",
    )


def taken_by_default(request: Request) -> tuple[str, ...]:
    """A sentence about the values that nobody asked for; nothing where all were given."""
    recipe = request.recipe
    values = {
        "batch_size": f"micro batch {recipe.batch_size}",
        "seq_len": f"{recipe.seq_len} tokens a sequence",
        "precision": recipe.precision,
        "rank": f"rank {recipe.rank}",
        "target_modules": f"target modules {', '.join(recipe.target_modules)}",
        "dropout": f"dropout {recipe.dropout:g}",
    }
    if not recipe.adapts:
        values = {knob: values[knob] for knob in ("batch_size", "seq_len", "precision")}
    taken = [text for knob, text in values.items() if knob not in request.given]
    return (f"taken by default: {', '.join(taken)}",) if taken else ()


def _usual_on(device: Device, hardware: Hardware) -> dict[str, Any]:
    """Defaults that differ by device: fp16 where a GPU has no bf16, and any kernel until the model is known."""
    if device == "cpu":
        return {}
    precision = "bf16" if hardware.gpus and hardware.gpus[0].capability >= BF16_CAPABILITY else "fp16"
    return {"device": "cuda", "kernel": "efficient", "allocator": "default", "precision": precision}


def _without_dropout(given: Mapping[str, Any]) -> dict[str, Any]:
    """PEFT adapts parameters without dropout alone."""
    return {"dropout": 0.0} if given.get("target_parameters") else {}


def _quantization(given: Mapping[str, Any]) -> dict[str, Any]:
    """QLoRA is LoRA over quantized weights: each of the two words stands for both."""
    if given.get("method") == "qlora" and "quantization" not in given:
        return {"quantization": "nf4"}
    if given.get("quantization", "none") != "none" and given.get("method", "lora") == "lora":
        return {"method": "qlora"}
    return {}


def _of(values: Mapping[str, Any], names: frozenset[str]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name in names}


def parsed(name: str, value: Any) -> Any:
    """A knob's value as a Recipe has it, from the text or texts of a flag or a file."""
    if name in PARSERS and isinstance(value, (str, tuple)):
        return PARSERS[name](value)
    return value == "on" if name in _SWITCHES and isinstance(value, str) else value


def _with_batch(recipe: Recipe, usual: Recipe, effective: int | None, *, batch_given: bool) -> Recipe:
    """The recipe with the effective batch that was asked for, or as near to the usual one as its batch allows."""
    batch = recipe.batch_size
    if effective is None:
        return replace(recipe, accumulation=max(1, round(usual.effective_batch / batch)))
    if effective % batch and batch_given:
        raise UsageError(
            f"an effective batch of {effective} is no multiple of the micro batch {batch}",
            hint="choose --batch-size as a divisor of --effective-batch",
        )
    batch = next(size for size in range(min(batch, effective), 0, -1) if effective % size == 0)
    return replace(recipe, batch_size=batch, accumulation=effective // batch)
