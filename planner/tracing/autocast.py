"""CUDA's autocast on CPU stand-ins: the same casts, and so the same copies, as on the device."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor

from .overrides import overridden

_KEY = torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastCPU)
_IN_FP32 = (
    "exp", "expm1", "log", "log10", "log2", "log1p", "reciprocal", "rsqrt", "pow.Tensor_Scalar", "pow.Tensor_Tensor",
    "softplus", "layer_norm", "rms_norm", "group_norm", "nll_loss", "nll_loss_nd", "logsumexp", "cumsum", "sum",
    "sum.dim_IntList", "cumprod", "softmax.int", "log_softmax.int",
)  # fmt: skip
"""Of ATen/autocast_mode.h, AT_FORALL_FP32 and AT_FORALL_FP32_SET_OPT_DTYPE, what language models use: CUDA computes
it in fp32, while the CPU's autocast leaves it as it comes."""


def cuda_autocast() -> AbstractContextManager[None]:
    """A context in which the CPU's autocast casts as CUDA's does."""
    return overridden("AutocastCPU", {name: _in_fp32(_overload(name)) for name in _IN_FP32})


def _overload(name: str) -> Any:
    packet, _, overload = name.partition(".")
    return getattr(getattr(torch.ops.aten, packet), overload or "default")


def _in_fp32(op: Any) -> Callable[..., Any]:
    def run(*args: Any, **kwargs: Any) -> Any:
        with torch._C._ExcludeDispatchKeyGuard(_KEY):
            return op(*(_wide(arg) for arg in args), **kwargs)

    return run


def _wide(value: Any) -> Any:
    if isinstance(value, Tensor) and value.is_floating_point():
        return value.to(torch.float32)
    return value
