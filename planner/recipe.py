"""Every knob of a run. A recipe that exists is one that the libraries accept (planner.refusals)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal, get_args

from ..profiles.errors import UsageError
from .refusals import require_supported

Method = Literal["lora", "qlora", "full"]
Device = Literal["cpu", "cuda"]
Precision = Literal["fp32", "bf16", "fp16", "bf16-amp", "fp16-amp"]
Quantization = Literal["none", "nf4", "nf4-dq", "int8"]
AdapterDtype = Literal["fp32", "base"]
Optimizer = Literal[
    "adamw",
    "adamw-fused",
    "adamw-8bit",
    "paged-adamw",
    "paged-adamw-8bit",
    "adafactor",
    "lion",
    "sgd",
    "sgd-momentum",
]
Attention = Literal["sdpa", "eager", "flash"]
Kernel = Literal["cpu", "math", "efficient", "flash", "cudnn"]
Loss = Literal["full", "supervised", "chunked"]
Padding = Literal["padded", "none"]
Allocator = Literal["pinned", "default", "expandable"]
Init = Literal["pretrained", "random"]
Loop = Literal["trainer", "plain"]

ATTENTION = ("attention",)
"""Every linear of the attention block: q, k, v, o of a Llama, `c_attn` and `c_proj` of a GPT-2."""
ALL_LINEAR = ("all-linear",)
LOSS_CHUNK = 128
"""Supervised positions whose logits exist at once under `loss="chunked"`."""

_CHOICES: Mapping[str, tuple[str, ...]] = {
    "method": get_args(Method),
    "device": get_args(Device),
    "kernel": get_args(Kernel),
    "quantization": get_args(Quantization),
    "precision": get_args(Precision),
    "adapter_dtype": get_args(AdapterDtype),
    "optimizer": get_args(Optimizer),
    "attention": get_args(Attention),
    "loss": get_args(Loss),
    "padding": get_args(Padding),
    "allocator": get_args(Allocator),
    "init": get_args(Init),
    "loop": get_args(Loop),
}
_POSITIVE = (
    "rank", "alpha", "batch_size", "accumulation", "seq_len", "supervised_len", "threads",
    "pad_to_multiple_of", "length_buckets",
)  # fmt: skip
_CHECKPOINTING = re.compile(r"none|full|every-([2-9]|[1-9]\d+)")


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """One training configuration, complete.

    Defaults are the founding document's: LoRA r 8, alpha 16, dropout 0.05 on the attention's projections,
    micro batch 2, accumulation 4. Raises UsageError for a value or a combination that cannot be.
    """

    method: Method = "lora"
    device: Device = "cpu"
    rank: int = 8
    alpha: int = 16
    dropout: float = 0.05
    target_modules: tuple[str, ...] = ATTENTION
    batch_size: int = 2
    """Micro batch: sequences per forward pass."""
    accumulation: int = 4
    """Micro batches per optimizer step."""
    seq_len: int = 512
    """Tokens per sequence, the longest that occurs."""
    supervised_len: int = 512
    """Tokens per sequence that carry loss, the most that occur."""
    precision: Precision = "bf16"
    """bf16, fp16: weights and compute; -amp: autocast over fp32 weights."""
    quantization: Quantization = "none"
    """The base's linears: nf4 by bitsandbytes (dq: block scales quantized once more), or int8."""
    kbit_preparation: bool = True
    """PEFT's prepare_model_for_kbit_training: what is not quantized is cast to fp32."""
    adapter_dtype: AdapterDtype = "fp32"
    input_casting: bool = True
    """PEFT's copy of every wrapped linear's input in the adapter's dtype; off: the adapter's weights
    are cast to the input's dtype instead."""
    checkpointing: str = "none"
    """none, full, or every-N (every N-th layer is recomputed, as transformers' `every_n_layers`)."""
    optimizer: Optimizer = "adamw"
    attention: Attention = "sdpa"
    """flash: the flash-attention package."""
    kernel: Kernel = "cpu"
    """What torch's scaled_dot_product_attention runs on the device (planner.kernels)."""
    loss: Loss = "full"
    padding: Padding = "padded"
    """padded: batches carry padding, and so a materialised mask; none: all rows are equally long."""
    pad_to_multiple_of: int = 1
    """Batches are padded to multiples of this: math kernels are made, and kept, for every new shape."""
    length_buckets: int = 1
    """Distinct padded lengths that occur in the data."""
    init: Init = "pretrained"
    """random: weights are made in memory (training from scratch, benchmarks) instead of loaded."""
    loop: Loop = "trainer"
    """trainer: Hugging Face's, which drops the model's outputs before backward; plain: a loop of one's own that
    holds them until the optimizer has stepped, and does not clip gradients."""
    allocator: Allocator = "pinned"
    threads: int = 2

    def __post_init__(self) -> None:
        for knob, choices in _CHOICES.items():
            if getattr(self, knob) not in choices:
                raise UsageError(
                    f"{knob} cannot be {getattr(self, knob)!r}", hint=f"one of: {', '.join(choices)}"
                )
        for knob in _POSITIVE:
            if getattr(self, knob) < 1:
                raise UsageError(f"{knob} must be at least 1, not {getattr(self, knob)}")
        if not 0 <= self.dropout < 1:
            raise UsageError(f"dropout must be in [0, 1), not {self.dropout}")
        if not _CHECKPOINTING.fullmatch(self.checkpointing):
            raise UsageError(
                f"checkpointing cannot be {self.checkpointing!r}",
                hint="one of: none, full, every-N with N >= 2",
            )
        if not self.target_modules:
            raise UsageError("no target modules", hint="try --target-modules attention or all-linear")
        require_supported(self)

    @property
    def adapts(self) -> bool:
        """Whether adapters are trained over a frozen base."""
        return self.method != "full"

    @property
    def effective_batch(self) -> int:
        """Sequences per optimizer step."""
        return self.batch_size * self.accumulation

    @property
    def checkpoint_period(self) -> int:
        """Every how many layers one is recomputed; 0 for none."""
        if self.checkpointing == "none":
            return 0
        return 1 if self.checkpointing == "full" else int(self.checkpointing.removeprefix("every-"))

    @property
    def weights_dtype(self) -> str:
        """torch's name of the dtype that the base weights are kept in, those that are not quantized."""
        if self.quantization != "none" and self.autocast_dtype is not None:
            return self.autocast_dtype
        return {"bf16": "bfloat16", "fp16": "float16"}.get(self.precision, "float32")

    @property
    def autocast_dtype(self) -> str | None:
        """torch's name of the dtype that autocast computes in; None without autocast."""
        return {"bf16-amp": "bfloat16", "fp16-amp": "float16"}.get(self.precision)

    def graph(self) -> Recipe:
        """The recipe with every knob that does not change the traced graph set to a common value."""
        common = replace(
            self, batch_size=1, accumulation=min(self.accumulation, 2), seq_len=1, supervised_len=1, alpha=16,
            threads=1, pad_to_multiple_of=1, length_buckets=1, allocator="default", init="pretrained",
            dropout=0.1 if self.dropout and self.adapts else 0.0,
            kbit_preparation=self.kbit_preparation or self.quantization == "none",
        )  # fmt: skip
        if not self.adapts:
            common = replace(
                common, rank=1, target_modules=ATTENTION, adapter_dtype="fp32", input_casting=True
            )
        elif self.adapter_dtype == "base" or self.weights_dtype == "float32":
            common = replace(common, input_casting=True)
        return common

    def to_dict(self) -> dict[str, Any]:
        """Every knob, JSON-ready."""
        return {**asdict(self), "target_modules": list(self.target_modules)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Recipe:
        """The inverse of `to_dict`. Raises UsageError for unknown knobs."""
        known = {field.name for field in fields(cls)}
        if unknown := sorted(set(data) - known):
            raise UsageError(f"unknown knob {unknown[0]!r}", hint=f"known: {', '.join(sorted(known))}")
        return cls(**{**data, "target_modules": tuple(data.get("target_modules", ATTENTION))})
