"""What older versions and other stacks do otherwise, where that is one clean rule: applied to the traced model, or to
the allocator that its stream goes through."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lplan.planner.caching_allocator import CachingAllocator
from lplan.planner.footprint import Footprint
from lplan.planner.simulation import CUDA_PHASES
from lplan.planner.stream import Stream
from lplan.planner.tracing import trace as trace_module
from lplan.planner.tracing.quantized import QuantizedLinear

SHIFTED = "shifted logits"
"""transformers 4.46 to 4.48: `ForCausalLMLoss` copies the logits but the last of each sequence, in fp32."""
EARLY_FLOAT = "early float"
"""transformers before 4.46: the model itself turns the logits to fp32, and the 16-bit ones are gone before the loss."""
TRL_CASTS = "TRL casts"
"""TRL's `peft_module_casting_to_bf16` on a 4-bit base under bf16: embeddings and head to bf16."""
KEPT_INPUTS = "kept inputs"
"""bitsandbytes before 0.43.2: `MatMul4Bit` holds its input, and lets go of it only with the graph (#1270)."""
QUANTIZED_HEAD = "quantized head"
"""Lightning's BitsandbytesPrecision replaces every linear, the output head too."""
CHUNKED_16_BIT = "chunked in 16 bits"
"""litgpt's `chunked_cross_entropy`: chunks of 128 tokens in the logits' own dtype, none of them made anew."""
FUSED_QKV = "fused qkv"
"""The value is a view of what one linear made for query, key and value, and keeps all of it."""
READ_TWICE = "tied head read twice"
"""transformers 5.0 under bitsandbytes: what a T4 reserved is met with a tied head that is read like the embeddings, and
let go of in k-bit preparation; 5.23 on an H200 reads it once."""
SHIFTED_16_BIT = "shifted in 16 bits"
"""Code of its own that shifts the logits before they are turned to fp32, as Qwen's modeling_qwen.py does."""


class OlderAllocator(CachingAllocator):
    """PyTorch 2.10 took the first cuBLAS workspace before any layer (runs on a T4), 2.11 takes it at the first linear
    (on an H200). `clears`: the run empties the cache between phases, and so after every step."""

    def __init__(self, workspace_bytes: int, *, clears: bool) -> None:
        super().__init__()
        self._workspace_bytes, self._clears, self._ended = workspace_bytes, clears, 0

    def reset_peaks(self) -> None:
        """Begin a new phase, the first step with a workspace."""
        if self._clears:
            self.empty_cache()
        super().reset_peaks()
        self._ended += 1
        if self._ended == CUDA_PHASES.index("first step"):
            self.allocate(self._workspace_bytes)


def with_an_early_handle(footprint: Footprint) -> Footprint:
    """One whose first product takes no workspace, for OlderAllocator has taken it."""
    stream = footprint.stream
    assert stream is not None
    return replace(footprint, stream=Stream(stream.storages, stream.blocks, stream.products[1:]))


@contextmanager
def applied(rules: Sequence[str]) -> Iterator[None]:
    """A context in which models are wrapped as the rules say."""
    original = trace_module.wrap

    def wrap(model: nn.Module, recipe: Any) -> nn.Module:
        wrapped = original(model, recipe)
        for rule in rules:
            _RULES[rule](wrapped)
        return wrapped

    trace_module.wrap = wrap
    try:
        yield
    finally:
        trace_module.wrap = original


def _read_twice(model: nn.Module) -> None:
    base = _base(model)
    embeddings, head = base.get_input_embeddings(), base.get_output_embeddings()
    if head.weight is embeddings.weight:
        head.weight = nn.Parameter(embeddings.weight.detach(), requires_grad=False)


def _shifted(model: nn.Module) -> None:
    def loss(logits: Tensor, labels: Tensor, vocab_size: int, **_: Any) -> Tensor:
        wide = logits.float()
        kept = wide[..., :-1, :].contiguous().view(-1, vocab_size)
        return F.cross_entropy(kept, labels[..., 1:].contiguous().view(-1))

    _base(model).loss_function = loss


def _early_float(model: nn.Module) -> None:
    head = _base(model).get_output_embeddings()
    head.register_forward_hook(lambda _module, _args, output: output.float())


def _trl_casts(model: nn.Module) -> None:
    for name, parameter in model.named_parameters():
        if ".lora_" not in name and any(part in name for part in ("lm_head", "embed_tokens")):
            parameter.data = parameter.data.to(torch.bfloat16)


def _shifted_16_bit(model: nn.Module) -> None:
    def loss(logits: Tensor, labels: Tensor, vocab_size: int, **_: Any) -> Tensor:
        kept = logits[..., :-1, :].contiguous().view(-1, vocab_size)
        return F.cross_entropy(kept.float(), labels[..., 1:].contiguous().view(-1))

    _base(model).loss_function = loss


def _chunked_16_bit(model: nn.Module) -> None:
    def loss(logits: Tensor, labels: Tensor, vocab_size: int, **_: Any) -> Tensor:
        parts = zip(logits.split(128, dim=1), labels.split(128, dim=1), strict=True)
        losses = [
            F.cross_entropy(part.reshape(-1, vocab_size), targets.reshape(-1), reduction="none")
            for part, targets in parts
        ]
        return torch.cat(losses).mean()

    _base(model).loss_function = loss


class _Keeping(torch.autograd.Function):
    """The product of a quantized linear, with its input in an attribute of the node."""

    @staticmethod
    def forward(ctx: Any, input: Tensor, layer: QuantizedLinear) -> Tensor:  # noqa: A002
        ctx.layer, ctx.tensors = layer, input
        return F.linear(input, layer.dequantize())

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return torch.matmul(gradient, ctx.layer.dequantize().to(gradient.dtype)), None


class _KeepingLinear(QuantizedLinear):
    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        output = _Keeping.apply(input.to(self.dtype), self)
        return output if self.bias is None else output + self.bias.to(output.dtype)  # type: ignore[no-any-return]


def _kept_inputs(model: nn.Module) -> None:
    for module in model.modules():
        if type(module) is QuantizedLinear:
            module.__class__ = _KeepingLinear


def _quantized_head(model: nn.Module) -> None:
    quantized = next(module for module in model.modules() if isinstance(module, QuantizedLinear))
    base = _base(model)
    base.set_output_embeddings(
        QuantizedLinear(base.get_output_embeddings(), quantized.quantization, quantized.dtype)
    )


class _PartOfAll(torch.autograd.Function):
    """A tensor (..., n) as the first part of one that is (..., width)."""

    @staticmethod
    def forward(ctx: Any, part: Tensor, width: int) -> Tensor:
        return part.new_empty(*part.shape[:-1], width)[..., : part.shape[-1]]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient, None


def _fused_qkv(model: nn.Module) -> None:
    for attention in model.modules():
        if hasattr(attention, "v_proj"):
            width = sum(getattr(attention, name).out_features for name in ("q_proj", "k_proj", "v_proj"))
            attention.v_proj.register_forward_hook(
                lambda _module, _args, output, width=width: _PartOfAll.apply(output, width)
            )


def _base(model: nn.Module) -> Any:
    inner = getattr(model, "get_base_model", None)
    return model if inner is None else inner()


_RULES = {
    SHIFTED: _shifted, EARLY_FLOAT: _early_float, TRL_CASTS: _trl_casts, KEPT_INPUTS: _kept_inputs,
    QUANTIZED_HEAD: _quantized_head, CHUNKED_16_BIT: _chunked_16_bit, SHIFTED_16_BIT: _shifted_16_bit,
    FUSED_QKV: _fused_qkv, READ_TWICE: _read_twice,
}  # fmt: skip
