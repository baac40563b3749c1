"""Every knob of a run. A recipe that exists is one that the libraries accept (planner.refusals)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from functools import lru_cache
from typing import Any, Literal, get_args

from ..profiles.errors import UsageError
from .patterns import REGEX, check_patterns
from .refusals import require_supported

Method = Literal["lora", "qlora", "full"]
Device = Literal["cpu", "cuda"]
Precision = Literal["fp32", "bf16", "fp16", "bf16-amp", "fp16-amp"]
Quantization = Literal["none", "nf4", "nf4-dq", "fp4", "fp4-dq", "int8", "gptq", "awq"]
_AS_LARGE: Mapping[Quantization, Quantization] = {"fp4": "nf4", "fp4-dq": "nf4-dq"}
AdapterDtype = Literal["fp32", "base"]
Bias = Literal["none", "all", "lora-only"]
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
Loss = Literal["full", "supervised", "chunked", "fused"]
Padding = Literal["padded", "packed", "none"]
Offload = Literal["activations", "checkpoints", "optimizer", "weights"]
Allocator = Literal["pinned", "default", "expandable"]
Init = Literal["pretrained", "random"]
Loop = Literal["trainer", "plain"]
EvalLogits = Literal["none", "gathered", "argmax"]

ATTENTION = ("attention",)
"""Every linear of the attention block: q, k, v, o of a Llama, `c_attn` and `c_proj` of a GPT-2."""
ALL_LINEAR = ("all-linear",)
Pattern = tuple[str, int]
"""The end of a module's path as a regular expression, and its rank or alpha (PEFT's `rank_pattern`)."""
LOSS_CHUNK = 128
"""Supervised positions whose logits exist at once under `loss="chunked"`."""

_CHOICES: Mapping[str, tuple[str, ...]] = {
    "method": get_args(Method),
    "device": get_args(Device),
    "kernel": get_args(Kernel),
    "quantization": get_args(Quantization),
    "precision": get_args(Precision),
    "adapter_dtype": get_args(AdapterDtype),
    "bias": get_args(Bias),
    "optimizer": get_args(Optimizer),
    "attention": get_args(Attention),
    "loss": get_args(Loss),
    "padding": get_args(Padding),
    "allocator": get_args(Allocator),
    "init": get_args(Init),
    "loop": get_args(Loop),
    "eval_logits": get_args(EvalLogits),
}
_POSITIVE = (
    "rank", "alpha", "batch_size", "accumulation", "seq_len", "supervised_len", "threads",
    "pad_to_multiple_of", "length_buckets", "head_ratio", "eval_samples",
)  # fmt: skip
_NOT_NEGATIVE = ("eval_accumulation_steps", "tokenizing_workers", "loader_workers")
ADAPTER_KNOBS = (
    "rank", "alpha", "dropout", "target_modules", "target_parameters", "modules_to_save", "trainable_tokens",
    "rank_pattern", "alpha_pattern", "rslora", "dora", "lora_bias", "bias",
)  # fmt: skip
"""What says which weights are trained where the base is frozen."""
_LISTS = ("target_modules", "target_parameters", "modules_to_save", "trainable_tokens", "offload")
_PATTERNS = ("rank_pattern", "alpha_pattern")
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
    """Names, or a single regular expression after "re:"; none where only parameters are targeted."""
    target_parameters: tuple[str, ...] = ()
    """Parameters of modules that are no linears: the stacked weights of a mixture's experts."""
    modules_to_save: tuple[str, ...] = ()
    """Modules of which a trainable copy is made, and saved with the adapter."""
    trainable_tokens: tuple[int, ...] = ()
    """Rows of the input embeddings (and of a head tied to them) that are trained."""
    rank_pattern: tuple[Pattern, ...] = ()
    alpha_pattern: tuple[Pattern, ...] = ()
    rslora: bool = False
    """Scaled by alpha over the root of the rank."""
    dora: bool = False
    """Weights are split into magnitude, which is trained, and direction, which is adapted."""
    lora_bias: bool = False
    """A bias on every B."""
    bias: Bias = "none"
    """The base's own biases that are trained: all, or those of the adapted layers."""
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
    """The base's linears: by bitsandbytes on loading nf4, fp4 (dq: block scales quantized once more) or int8, on a CPU
    torchao's; gptq or awq where the checkpoint is (its `quantization_config` says how)."""
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
    """fused: Liger's linear cross entropy (planner.tracing.fused)."""
    head_ratio: int = 1
    """Vocabulary over hidden width, rounded up: by this Liger cuts a micro batch into chunks (planner.kernels)."""
    padding: Padding = "padded"
    """padded: batches carry padding, and so a materialised mask; packed: the sequences of a micro batch in one row,
    kept apart by their positions; none: all rows are equally long."""
    pad_to_multiple_of: int = 1
    """Batches are padded to multiples of this: math kernels are made, and kept, for every new shape."""
    length_buckets: int = 1
    """Distinct padded lengths that occur in the data."""
    init: Init = "pretrained"
    """random: weights are made in memory (training from scratch, benchmarks) instead of loaded."""
    loop: Loop = "trainer"
    """trainer: Hugging Face's, which drops the model's outputs before backward; plain: a loop of one's own that
    holds them until the optimizer has stepped, and does not clip gradients."""
    offload: tuple[Offload, ...] = ()
    """What waits in host memory while a GPU trains: all that is saved for backward (torch's save_on_cpu), or of it the
    checkpoints; optimizer states (torchao's CPUOffloadOptimizer); frozen weights (accelerate's cpu_offload)."""
    clipping: bool = True
    """Whether the gradients' norm is taken and clipped before every step."""
    eval_logits: EvalLogits = "none"
    """What an evaluation keeps of every batch until its end (planner.gathering): the logits, as the Trainer does where
    metrics are computed, or what `preprocess_logits_for_metrics` left of them, their argmax."""
    eval_samples: int = 1
    """Sequences of such an evaluation, taken in micro batches."""
    eval_accumulation_steps: int = 0
    """Batches after which what is kept moves to host memory; 0: once, at the end."""
    tokenizing_workers: int = 0
    """Processes of `datasets` that tokenize beside the loaded model (TRL's `dataset_num_proc`); 0: as lplan does it,
    in the launching process, before any model is loaded."""
    loader_workers: int = 0
    """Processes of a DataLoader that make batches (`dataloader_num_workers`)."""
    tf32: bool = False
    """fp32 products by TF32's tensor cores (torch's allow_tf32): faster, and no byte less."""
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
        if not self.target_modules and not self.target_parameters:
            raise UsageError("no target modules", hint="try --target-modules attention or all-linear")
        for word in self.offload:
            if word not in get_args(Offload):
                raise UsageError(f"{word!r} cannot be offloaded", hint=f"of: {', '.join(get_args(Offload))}")
        for knob in _NOT_NEGATIVE:
            if getattr(self, knob) < 0:
                raise UsageError(f"{knob} cannot be negative")
        check_patterns(self)
        require_supported(self)

    @property
    def names_layers(self) -> bool:
        """Whether the adapters may differ from layer to layer: by a pattern, or a layer's number in a name."""
        names = (*self.target_modules, *self.target_parameters, *self.modules_to_save)
        by_pattern = bool(self.rank_pattern) or any(name.startswith(REGEX) for name in names)
        return self.adapts and (by_pattern or any(part.isdigit() for n in names for part in n.split(".")))

    @property
    def adapts(self) -> bool:
        """Whether adapters are trained over a frozen base."""
        return self.method != "full"

    @property
    def is_packed(self) -> bool:
        """Whether the base's linears are quantized in its files."""
        return self.quantization in ("gptq", "awq")

    @property
    def effective_batch(self) -> int:
        """Sequences per optimizer step."""
        return self.batch_size * self.accumulation

    @property
    def cuts_logits(self) -> bool:
        """Whether the loss is made of the head's own output, a chunk of it at a time."""
        return self.loss in ("chunked", "fused")

    @property
    def row_multiple(self) -> int:
        """What rows of tokens are padded to multiples of: as much for every sequence, packed or not."""
        packed = self.batch_size if self.padding == "packed" else 1
        return self.pad_to_multiple_of * packed

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
        return _graph(self)

    def to_dict(self) -> dict[str, Any]:
        """Every knob, JSON-ready."""
        data = asdict(self)
        return {
            **data,
            **{knob: list(data[knob]) for knob in _LISTS},
            **{knob: dict(data[knob]) for knob in _PATTERNS},
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Recipe:
        """The inverse of `to_dict`. Raises UsageError for unknown knobs."""
        known = {field.name for field in fields(cls)}
        if unknown := sorted(set(data) - known):
            raise UsageError(f"unknown knob {unknown[0]!r}", hint=f"known: {', '.join(sorted(known))}")
        lists = {knob: tuple(data[knob]) for knob in _LISTS if knob in data}
        patterns = {knob: tuple(data[knob].items()) for knob in _PATTERNS if knob in data}
        return cls(**{**data, **lists, **patterns})


@lru_cache(maxsize=4096)
def _graph(recipe: Recipe) -> Recipe:
    common = replace(
        recipe, batch_size=1, accumulation=min(recipe.accumulation, 2), seq_len=1, supervised_len=1, alpha=16,
        threads=1, pad_to_multiple_of=1, length_buckets=1, allocator="default", init="pretrained", head_ratio=1,
        quantization=_AS_LARGE.get(recipe.quantization, recipe.quantization),
        dropout=0.1 if recipe.dropout and recipe.adapts else 0.0,
        clipping=recipe.clipping and recipe.loop == "trainer",
        alpha_pattern=(), rslora=False, trainable_tokens=tuple(range(len(recipe.trainable_tokens))),
        kbit_preparation=recipe.kbit_preparation or recipe.quantization == "none" or recipe.device == "cpu",
        eval_samples=1, eval_accumulation_steps=0, tf32=False, tokenizing_workers=0, loader_workers=0,
    )  # fmt: skip
    if not recipe.adapts:
        common = replace(
            common, rank=1, target_modules=ATTENTION, adapter_dtype="fp32", input_casting=True,
            target_parameters=(), modules_to_save=(), trainable_tokens=(), rank_pattern=(), dora=False,
            lora_bias=False, bias="none",
        )  # fmt: skip
    elif recipe.adapter_dtype == "base" or recipe.weights_dtype == "float32":
        common = replace(common, input_casting=True)
    return common
