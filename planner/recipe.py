"""Every knob of a run. A recipe that exists is one that the libraries accept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, get_args, get_type_hints

from ..profiles.errors import UsageError

Method = Literal["lora", "full"]
Precision = Literal["fp32", "bf16", "bf16-amp"]
AdapterDtype = Literal["fp32", "base"]
Optimizer = Literal["adamw", "adamw-fused", "sgd"]
Attention = Literal["sdpa", "eager"]
Loss = Literal["full", "supervised", "chunked"]
Padding = Literal["padded", "none"]
Allocator = Literal["default", "pinned"]
Init = Literal["pretrained", "random"]

ALL_LINEAR = ("all-linear",)
ATTENTION_PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj")


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """One training configuration, complete.

    Defaults are the founding document's: LoRA r 8, alpha 16, dropout 0.05 on q, k, v, o;
    micro batch 2, accumulation 4.
    """

    method: Method = "lora"
    rank: int = 8
    alpha: int = 16
    dropout: float = 0.05
    target_modules: tuple[str, ...] = ATTENTION_PROJECTIONS
    batch_size: int = 2
    """Micro batch: sequences per forward pass."""
    accumulation: int = 4
    """Micro batches per optimizer step."""
    seq_len: int = 512
    """Tokens per sequence, the longest that occurs."""
    supervised_len: int = 512
    """Tokens per sequence that carry loss, the most that occur."""
    precision: Precision = "bf16"
    adapter_dtype: AdapterDtype = "fp32"
    input_casting: bool = True
    """PEFT's copy of every wrapped linear's input in the adapter's dtype."""
    checkpointing: str = "none"
    """none, full, or every-N: keep the activations of all but every N-th layer's recomputation."""
    optimizer: Optimizer = "adamw-fused"
    attention: Attention = "sdpa"
    loss: Loss = "full"
    padding: Padding = "padded"
    """Whether batches carry padding (and so a materialised mask), or all rows are equally long."""
    init: Init = "pretrained"
    allocator: Allocator = "pinned"
    threads: int = 2
