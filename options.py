"""The flags of the commands: every knob has the same one on all of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import reduce
from typing import Any, get_args

import click

from .planner.aim import Objective
from .planner.recipe import Allocator, Bias, EvalLogits, Loss, Offload, Optimizer, Precision, Quantization
from .planner.refusals import REFUSED_QUANTIZATIONS
from .profiles.errors import UsageError
from .profiles.units import parse_size

Command = Callable[..., Any]


class Size(click.ParamType[int]):
    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        try:
            return value if isinstance(value, int) else parse_size(value)
        except UsageError as error:
            flag = f"{param.opts[0]}: " if param else ""
            raise UsageError(f"{flag}{error}", hint=error.hint) from error


class Number(click.FloatRange):
    """A finite number in a range."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number: float = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value!r} is not a finite number.", param, ctx)
        return number


class Quantized(click.Choice[str]):
    """A quantization; those that cannot be trained are refused with the reason."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if value in REFUSED_QUANTIZATIONS:
            reason, hint = REFUSED_QUANTIZATIONS[value]
            raise UsageError(reason, hint=hint)
        return str(super().convert(value, param, ctx))


def _options(*options: Callable[[Command], Command]) -> Callable[[Command], Command]:
    return lambda command: reduce(lambda wrapped, option: option(wrapped), reversed(options), command)


def _choice(flag: str, *values: str, text: str, multiple: bool = False) -> Callable[[Command], Command]:
    return click.option(flag, type=click.Choice(values), multiple=multiple, help=text)


_POSITIVE = click.IntRange(min=1)
_COUNT = click.IntRange(min=0)
MACHINE = _options(
    click.option("--hardware", metavar="NAME", help="A named machine; default: this one, as detected."),
    click.option("--ram", type=Size(), help="Memory the run may use, all of it: 8G = 8GiB, 8GB = 8 * 10**9."),
    click.option("--vram", type=Size(), help="GPU memory the run may use."),
)
KNOBS = _options(
    _choice("--method", "lora", "qlora", "full", text="Default: lora."),
    click.option("--rank", type=_POSITIVE, help="LoRA rank. Default: 8."),
    click.option("--alpha", type=_POSITIVE, help="LoRA alpha. Default: 16."),
    click.option("--dropout", type=Number(0, 1, max_open=True), help="LoRA dropout. Default: 0.05."),
    click.option("--target-modules", metavar="NAMES", help="attention (default), all-linear, a,b,c or re:REGEX."),
    click.option("--target-parameters", metavar="NAMES", help="Stacked weights of experts, by name."),
    click.option("--modules-to-save", metavar="NAMES", help="Trained as copies, such as embed_tokens,lm_head."),
    click.option("--trainable-tokens", metavar="IDS", help="Rows of the embeddings: 5,9,128000-128010."),
    click.option("--rank-pattern", metavar="REGEX=N", multiple=True, help="Rank of modules that match."),
    click.option("--alpha-pattern", metavar="REGEX=N", multiple=True, help="Alpha of modules that match."),
    _choice("--rslora", "on", "off", text="Scale by alpha / sqrt(rank)."),
    _choice("--dora", "on", "off", text="Train magnitudes beside the adapters."),
    _choice("--lora-bias", "on", "off", text="A bias on every B."),
    _choice("--bias", *get_args(Bias), text="The base's own biases to train."),
    click.option("--batch-size", type=_POSITIVE, help="Micro batch: sequences per forward pass."),
    click.option("--effective-batch", type=_POSITIVE, help="Sequences per optimizer step. Default: 8."),
    click.option("--seq-len", type=_POSITIVE, help="Tokens per sequence, at most."),
    _choice(
        "--precision", *get_args(Precision), text="bf16, fp16: weights and compute; -amp: autocast over fp32 weights.",
    ),
    _choice("--adapter-dtype", "fp32", "base", text="Default: fp32."),
    _choice("--input-casting", "on", "off", text="PEFT's fp32 copies of adapter inputs."),
    click.option("--checkpointing", metavar="none|full|every-N", help="Activation checkpointing."),
    _choice("--optimizer", *get_args(Optimizer), text="adamw: torch's own default on the device."),
    click.option("--quantization", type=Quantized(get_args(Quantization)), help="Of the base; on a CPU int8 alone."),
    _choice("--kbit-preparation", "on", "off", text="PEFT's casts before training on a quantized base."),
    _choice("--attention", "sdpa", "eager", "flash", text="Default: sdpa."),
    _choice("--loss", *get_args(Loss), text="Which logits exist at once."),
    _choice("--offload", "none", *get_args(Offload), text="To host memory, from a GPU.", multiple=True),
    _choice("--eval-logits", *get_args(EvalLogits), text="What evaluations keep for a metric. Default: none."),
    click.option("--eval-samples", type=_POSITIVE, help="Sequences of an evaluation that keeps logits."),
    click.option("--eval-accumulation-steps", type=_POSITIVE, help="Batches between moves to host memory."),
    click.option("--tokenizing-workers", type=_COUNT, help="TRL's dataset_num_proc. Default: 0, as lplan's runs."),
    click.option("--loader-workers", type=_COUNT, help="A DataLoader's. Default: 0, as lplan's runs."),
    _choice("--padding", "padded", "packed", "none", text="packed: in one row; none: equally long sequences."),
    _choice("--clipping", "on", "off", text="Of gradients, by their norm. Default: on."),
    _choice("--tf32", "on", "off", text="fp32 products by a GPU's TF32 cores. Default: off."),
    _choice("--allocator", *get_args(Allocator), text="CPU: glibc's thresholds pinned; GPU: expandable segments."),
    click.option("--threads", type=click.IntRange(1, 1024), help="Default: usable cores."),
    _choice("--init", "pretrained", "random", text="random: weights made in memory."),
)  # fmt: skip
MODEL_HELP = "Alias (lplan models), hub id or folder."
TRUST = click.option("--trust-remote-code", is_flag=True, help="Run the model's own Python code.")
MODEL = _options(click.option("--model", required=True, metavar="NAME|HUB_ID|DIR", help=MODEL_HELP), TRUST)
JSON = click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
DATA = _options(
    click.option("--data", metavar="FILE|DIR|HUB_ID|demo", help="What to train on."),
    click.option("--task", metavar="NAME", help="banking77: labelled texts to dialogues. Default: none."),
    click.option("--epochs", type=Number(0, 1e6, min_open=True), help="Default: 3."),
    click.option("--max-steps", type=_POSITIVE, help="Optimizer steps, instead of epochs."),
    click.option("--learning-rate", type=Number(0, 1e3, min_open=True), help="Default: 2e-4."),
    click.option(
        "--warmup-steps", type=click.IntRange(min=0), help="Default: 50, at most a tenth of the steps."
    ),
    click.option("--seed", type=click.IntRange(0, 2**32 - 1), help="Default: 42."),
)


class Safety(click.ParamType["float | int"]):
    """A share of the budget (10%, 0.1) or a size (1G)."""

    name = "share or size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float | int:
        text = str(value).strip()
        share = _share(text)
        if share is None:
            return Size().convert(text, param, ctx)
        if not 0 <= share < 1:
            self.fail(f"{text!r} leaves nothing: a share is below 1, or 100 %.", param, ctx)
        return share


def _share(text: str) -> float | None:
    try:
        return float(text[:-1]) / 100 if text.endswith("%") else float(text) if "." in text else None
    except ValueError:
        return None


class Difference(click.ParamType[int]):
    """A size with its sign: +2G, -512M."""

    name = "+size|-size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        text = str(value).strip()
        size = Size().convert(text.lstrip("+-"), param, ctx)
        return -size if text.startswith("-") else size


PRICE = click.option("--price", type=Number(0, 1e6), help="Of this machine, an hour: adds the cost.")
SAFETY = click.option("--safety", type=Safety(), help="Keep this free: a share (10%) or a size (1G).")
AIM = _options(
    _choice("--objective", *get_args(Objective), text="What to take of all that fits. Default: fastest."),
    click.option("--keep", metavar="KNOBS", multiple=True, help="Leave these at their usual values."),
    click.option(
        "--allow",
        metavar="CHANGES",
        help="What may change what is learned, if nothing fits without: rank, targets, quantization, truncation.",
    ),
    SAFETY,
)
