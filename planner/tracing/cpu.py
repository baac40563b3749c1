"""What the CPU's kernels make where torch's meta kernels state another device's rule."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager

import torch
from torch import Tensor

from .autocast import as_product
from .overrides import overridden


def cpu_kernels() -> AbstractContextManager[None]:
    """Replaces torch's meta kernels where they differ from what the CPU's kernels make."""
    return overridden("Meta", {"_grouped_mm": grouped_mm, "native_layer_norm": _layer_norm})


def _layer_norm(
    input: Tensor,  # noqa: A002
    normalized_shape: Sequence[int],
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Statistics in the input's dtype, or in fp32 beside fp32 parameters (layer_norm.cpp, `layer_norm_cpu`);
    torch's meta kernel makes them fp32."""
    kept = input.dim() - len(normalized_shape)
    mixed = weight is not None and weight.dtype != input.dtype
    dtype = torch.float32 if mixed else input.dtype
    mean, rstd = (
        input.new_empty([*input.shape[:kept], *[1] * len(normalized_shape)], dtype=dtype) for _ in range(2)
    )
    return torch.empty_like(input, memory_format=torch.contiguous_format), mean, rstd


def grouped_mm(
    left: Tensor,
    right: Tensor,
    offs: Tensor | None = None,
    bias: Tensor | None = None,
    out_dtype: torch.dtype | None = None,
) -> Tensor:
    """Products of experts in every dtype; torch's meta kernel states the GPU's rule, bf16 alone
    (torch/_meta_registrations.py, `_meta_grouped_mm_common`)."""
    groups = [offs.shape[0]] if offs is not None and left.dim() == right.dim() == 2 else []
    if left.dim() == right.dim() == 3:
        groups = [left.shape[0]]
    return left.new_empty([*groups, left.shape[-2], right.shape[-1]], dtype=out_dtype or left.dtype)


@as_product
def cpu_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """What torch's CPU dispatch of scaled_dot_product_attention runs (sdp_utils_cpp.cpp, attention.cpp)."""
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        attn_mask = torch.zeros_like(attn_mask, dtype=query.dtype).masked_fill_(
            attn_mask.logical_not(), float("-inf")
        )
    same_heads = enable_gqa or query.shape[1] == key.shape[1] == value.shape[1]
    if dropout_p > 0.0 or query.shape[-1] != value.shape[-1] or not same_heads:
        return torch.ops.aten._scaled_dot_product_attention_math(  # type: ignore[no-any-return]
            query, key, value, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa
        )[0]
    return torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(  # type: ignore[no-any-return]
        query, key, value, dropout_p, is_causal, attn_mask=attn_mask, scale=scale
    )[0]
