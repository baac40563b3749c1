"""What CUDA's kernels make and hold: the ops that a GPU runs, and their scratch memory, on tensors without storage."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor

from ..recipe import Kernel
from .autocast import as_product
from .cpu import grouped_mm
from .overrides import overridden

_aten = torch.ops.aten


MASKLESS = "maskless"
"""Attention as the flash-attention package has it: causal and windowed by arguments, never by a mask. (A name with
"flash" in it makes transformers look for a kernel on the hub.)"""


def register_maskless() -> None:
    """Makes transformers know MASKLESS."""
    from transformers import AttentionInterface, AttentionMaskInterface

    attention = cuda_attention("flash")

    def maskless(
        _module: Any, query: Tensor, key: Tensor, value: Tensor, _mask: Any, dropout: float = 0.0, **how: Any
    ) -> tuple[Tensor, None]:
        result = attention(query, key, value, None, dropout, True, how.get("scaling"), True)
        return result.transpose(1, 2), None

    AttentionInterface.register(MASKLESS, maskless)
    AttentionMaskInterface.register(MASKLESS, lambda *_args, **_how: None)


def cuda_kernels() -> AbstractContextManager[None]:
    """Replaces torch's meta kernels: one rounds sizes up, which is no memory; the other knows bf16 alone."""
    kernels: dict[str, Callable[..., Any]] = {
        "_scaled_dot_product_efficient_attention": _efficient_forward,
        "_grouped_mm": grouped_mm,
    }
    return overridden("Meta", kernels)


def cuda_softmax(original: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """softmax that turns fp16 into fp32 in one kernel, as CUDA's does (SoftMax.cpp, `softmax`); bf16 is copied."""

    def softmax(input: Tensor, dim: int | None = None, *args: Any, **kwargs: Any) -> Tensor:  # noqa: A002
        dtype = kwargs.get("dtype")
        if input.dtype == torch.float16 and dtype == torch.float32 and dim is not None:
            return _aten._softmax(input, dim, True)  # type: ignore[no-any-return]
        return original(input, dim, *args, **kwargs)

    return softmax


def cuda_dropout(original: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """dropout that keeps a byte an element until backward, as CUDA's one kernel does (Dropout.cpp); what runs
    on a CPU keeps the noise in the input's dtype."""

    def dropout(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:  # noqa: A002
        if not training or inplace or not 0 < p < 1:
            return original(input, p, training, inplace)
        return _aten.native_dropout(input, p, True)[0]  # type: ignore[no-any-return]

    return dropout


def cuda_attention(kernel: Kernel) -> Callable[..., Tensor]:
    """torch's scaled_dot_product_attention on CUDA when `kernel` is what it runs (attention.cpp)."""

    def attention(
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> Tensor:
        if attn_mask is not None and attn_mask.dtype == torch.bool:
            attn_mask = torch.zeros_like(attn_mask, dtype=query.dtype).masked_fill_(
                attn_mask.logical_not(), float("-inf")
            )
        grouped = enable_gqa and query.shape[1] != key.shape[1]
        chosen = _possible(kernel, query, value, attn_mask, grouped=grouped)
        if chosen == "math":
            return _aten._scaled_dot_product_attention_math(  # type: ignore[no-any-return]
                query, key, value, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa
            )[0]
        if chosen == "flash":
            return _flash(query, key, value, dropout_p, is_causal, scale)
        if chosen == "cudnn":
            return _aten._scaled_dot_product_cudnn_attention(  # type: ignore[no-any-return]
                query, key, value, attn_mask, True, dropout_p, is_causal, scale=scale
            )[0]
        if grouped:  # by hand: torch itself would not come here
            key, value = (t.repeat_interleave(query.shape[1] // t.shape[1], 1) for t in (key, value))
        if attn_mask is not None:
            attn_mask = _aligned(attn_mask, query, key)
        return _aten._scaled_dot_product_efficient_attention(  # type: ignore[no-any-return]
            query, key, value, attn_mask, True, dropout_p, is_causal, scale=scale
        )[0]

    return as_product(attention)


def scratch(func: Any, args: Sequence[Any]) -> list[tuple[tuple[int, ...], torch.dtype]]:
    """Shapes and dtypes of what a CUDA kernel allocates for itself beside its results, which no dispatch shows."""
    name = func._schema.name
    if name == "aten::_softmax_backward_data":
        # SoftMax.cu, softmax_backward_cuda_out: `Tensor tmp = grad * output`
        return [(tuple(args[0].shape), args[0].dtype)]
    if name == "aten::_scaled_dot_product_efficient_attention_backward":
        return _efficient_backward(*args[1:4])
    if name == "aten::_scaled_dot_product_flash_attention_backward":
        return _flash_backward(*args[1:4])
    if name == "aten::_scaled_dot_product_cudnn_attention_backward":
        return [(tuple(args[1].shape), torch.float32)]
    return []


def _efficient_backward(
    query: Tensor, key: Tensor, value: Tensor
) -> list[tuple[tuple[int, ...], torch.dtype]]:
    """kernel_backward.h: fp32 accumulators of what does not stay in registers, for 16-bit inputs; delta, a row each."""
    found = [(tuple(query.shape[:3]), torch.float32)]
    if query.dtype != torch.float32:
        found.append((tuple(query.shape), torch.float32))
        if max(query.shape[-1], value.shape[-1]) > _IN_REGISTERS:
            found += [(tuple(key.shape), torch.float32), (tuple(value.shape), torch.float32)]
    return found


_IN_REGISTERS = 128


def _flash_backward(query: Tensor, key: Tensor, value: Tensor) -> list[tuple[tuple[int, ...], torch.dtype]]:
    """flash_api.cpp, mha_bwd: dq in fp32, its row sums, and keys' and values' gradients for every query head."""
    found = [(tuple(query.shape), torch.float32), (tuple(query.shape[:3]), torch.float32)]
    if key.shape[1] != query.shape[1]:
        batch, heads, _, width = query.shape
        found += [((batch, heads, key.shape[2], width), key.dtype)] * 2
    return found


def _possible(kernel: Kernel, query: Tensor, value: Tensor, mask: Tensor | None, *, grouped: bool) -> Kernel:
    """The kernel that runs for these very tensors (sdp_utils.cpp): fused ones have conditions. The efficient one knows
    no grouped heads, so it is none that torch falls back to for them."""
    half = query.dtype in (torch.float16, torch.bfloat16)
    if kernel in ("flash", "cudnn") and (
        not half or query.shape[-1] > 256 or query.shape[-1] != value.shape[-1]
    ):
        return "math" if grouped else "efficient"
    return "efficient" if kernel == "flash" and mask is not None else kernel


def _flash(
    query: Tensor, key: Tensor, value: Tensor, dropout_p: float, is_causal: bool, scale: float | None
) -> Tensor:
    """Widths are padded to a multiple of 8 (attention.cpp, `pad_last_dim`)."""
    width = query.shape[-1]
    if width % 8:
        query, key, value = (torch.nn.functional.pad(t, (0, 8 - width % 8)) for t in (query, key, value))
    output: Tensor = _aten._scaled_dot_product_flash_attention(
        query, key, value, dropout_p, is_causal, scale=scale
    )[0]
    return output[..., :width]


def _aligned(mask: Tensor, query: Tensor, key: Tensor) -> Tensor:
    """One mask for all heads is expanded, not copied (attention.cpp, `preprocess_mask`)."""
    return mask.expand(query.shape[0], query.shape[1], query.shape[2], key.shape[2])


def _efficient_forward(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_bias: Tensor | None,
    compute_log_sumexp: bool,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """As torch's own, with one row sum a token (it rounds rows up to a multiple of 32)."""
    batch, heads, length, _ = query.shape
    result = query.new_empty(batch, length, heads, value.shape[-1]).transpose(1, 2)
    sums = query.new_empty(batch, heads, length, dtype=torch.float32)
    seed, offset = (query.new_empty((), dtype=torch.int64) for _ in range(2))
    return result, sums, seed, offset
