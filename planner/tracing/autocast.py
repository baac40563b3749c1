"""Autocast on tensors without storage: the same casts, and so the same copies, as on the device.

torch has no autocast for meta tensors. All ops are given the dispatch key of the CPU's, and its kernels are replaced
by those that cast what a device's autocast casts (ATen/autocast_mode.h for CUDA, autocast_mode.cpp for CPUs).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from .overrides import overridden, replaced

_KEY = "AutocastCPU"
_KEYS = torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastCPU)
_LOWER = (
    "linear", "matmul", "mm", "bmm", "addmm", "baddbmm", "addbmm", "linalg_vecdot", "prelu",
    "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_tbc", "_convolution.deprecated",
    "scaled_dot_product_attention",
)  # fmt: skip
"""In autocast's dtype on both devices."""
_CUDA_LOWER = (*_LOWER, "_convolution", "convolution", "addmv", "mv", "addr", "einsum")
_CUDA_FP32 = (
    "exp", "expm1", "log", "log10", "log2", "log1p", "reciprocal", "rsqrt", "pow.Tensor_Scalar", "pow.Tensor_Tensor",
    "pow.Scalar", "softplus", "layer_norm", "native_layer_norm", "rms_norm", "group_norm", "nll_loss", "kl_div",
    "l1_loss", "smooth_l1_loss", "mse_loss", "binary_cross_entropy_with_logits", "logsumexp", "cdist", "prod",
    "prod.dim_int", "cumsum", "cumprod", "sum", "sum.dim_IntList", "softmax.int", "log_softmax.int",
    "linalg_vector_norm",
)  # fmt: skip
_CUDA_WIDEST = ("addcdiv", "addcmul", "dot", "index_put", "scatter_add")
_CPU_LOWER = (*_LOWER, "conv1d.padding", "conv2d.padding", "conv3d.padding", "_addmm_activation")
_CPU_FP32 = (
    "cross_entropy_loss", "nll_loss", "kl_div", "l1_loss", "smooth_l1_loss", "mse_loss",
    "binary_cross_entropy_with_logits", "prod", "prod.dim_int", "cdist", "polar", "view_as_complex",
)  # fmt: skip
_CPU_WIDEST = ("stack", "cat", "index_copy")


@dataclass(slots=True)
class _Casts:
    """Casts to autocast's dtype. Those of trainable leaves are kept until autocast is left (autocast_mode.cpp,
    `cached_cast`)."""

    kept: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)

    def lower(self, tensor: Tensor) -> Tensor:
        """As autocast computes products."""
        dtype = torch.get_autocast_dtype("cpu")
        if tensor.dtype == dtype or tensor.dtype == torch.float64:
            return tensor
        leaf = (
            tensor.dtype == torch.float32
            and tensor.requires_grad
            and tensor.is_leaf
            and not tensor._is_view()
        )
        if not leaf or not torch.is_autocast_cache_enabled():
            return tensor.to(dtype)
        if id(tensor) not in self.kept:
            self.kept[id(tensor)] = (tensor, tensor.to(dtype))
        return self.kept[id(tensor)][1]


def autocast_of_cpu(device: str) -> AbstractContextManager[None]:
    """A context in which a CPU's autocast computes in fp32 what the autocast of a device, "cpu" or "cuda", does."""
    names = _CUDA_FP32 if device == "cuda" else ()
    return overridden(_KEY, {name: _cast(_overload(name), _wide) for name in names})


@contextmanager
def autocast_of_meta(device: str) -> Iterator[None]:
    """A context in which `torch.autocast("cpu")` casts meta tensors as the autocast of a device, "cpu" or "cuda", does.

    An op of which that is not known raises NotImplementedError.
    """
    casts = _Casts()
    with (
        overridden(_KEY, {**_refusals(), **_kernels(device, casts)}),
        replaced(torch, "clear_autocast_cache", casts.kept.clear),
        torch._C._IncludeDispatchKeyGuard(torch._C.DispatchKey.AutocastCPU),
    ):
        yield


@contextmanager
def asked_of_meta() -> Iterator[None]:
    """A context in which what models ask and say of a meta tensor's autocast is about the CPU's: torch has none for
    meta to turn off, and transformers leaves it alone there (utils/generic.py, `maybe_autocast`)."""
    from transformers.utils import generic

    maybe = generic.maybe_autocast
    asking = [
        module for module in list(sys.modules.values())
        if getattr(module, "__dict__", {}).get(maybe.__name__) is maybe
    ]  # fmt: skip
    with ExitStack() as stack:
        stack.enter_context(replaced(torch.autocast, "__init__", _of_cpu(torch.autocast.__init__, 1)))
        for module in asking:
            stack.enter_context(replaced(module, maybe.__name__, _of_cpu(maybe, 0)))
        yield


def _of_cpu(function: Callable[..., Any], place: int) -> Callable[..., Any]:
    """A function that is told "cpu" for "meta", its argument `device_type` or the one at a place."""

    def run(*args: Any, **kwargs: Any) -> Any:
        told = ["cpu" if arg == "meta" and n == place else arg for n, arg in enumerate(args)]
        if kwargs.get("device_type") == "meta":
            kwargs["device_type"] = "cpu"
        return function(*told, **kwargs)

    return run


def as_product(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """A function that autocast casts as a whole, like a matrix product: what it runs inside is not cast again."""
    cast = _cast(function, lambda tensor: tensor.to(torch.get_autocast_dtype("cpu")))

    def run(*args: Any, **kwargs: Any) -> Tensor:
        return (cast if torch.is_autocast_enabled("cpu") else function)(*args, **kwargs)

    return run


def _kernels(device: str, casts: _Casts) -> Mapping[str, Callable[..., Any]]:
    lower, wide, widest = (
        (_CUDA_LOWER, _CUDA_FP32, _CUDA_WIDEST) if device == "cuda" else (_CPU_LOWER, _CPU_FP32, _CPU_WIDEST)
    )
    passed = () if device == "cpu" else (*_CPU_FP32, *_CPU_WIDEST)
    return {
        **{name: _cast(_overload(name), lambda tensor: tensor) for name in passed},
        **{name: _cast(_overload(name), casts.lower) for name in lower},
        **{name: _cast(_overload(name), _wide) for name in wide},
        **{name: _widest(_overload(name)) for name in widest},
    }


def _overload(name: str) -> Any:
    packet, _, overload = name.partition(".")
    return getattr(getattr(torch.ops.aten, packet), overload or "default")


def _refusals() -> Mapping[str, Callable[..., Any]]:
    """Of all that torch casts on a CPU."""
    cast = torch._C._dispatch_get_registrations_for_dispatch_key(_KEY)
    names = [name.removeprefix("aten::") for name in cast if name.startswith("aten::")]
    return {name: _refused(name) for name in names}


def _refused(name: str) -> Callable[..., Any]:
    def run(*_args: Any, **_kwargs: Any) -> Any:
        raise NotImplementedError(f"{name} under autocast")

    return run


def _cast(op: Any, convert: Callable[[Tensor], Tensor]) -> Callable[..., Any]:
    def run(*args: Any, **kwargs: Any) -> Any:
        with torch._C._ExcludeDispatchKeyGuard(_KEYS):
            return op(
                *_each(args, convert), **dict(zip(kwargs, _each(kwargs.values(), convert), strict=True))
            )

    return run


def _widest(op: Any) -> Callable[..., Any]:
    def run(*args: Any, **kwargs: Any) -> Any:
        with torch._C._ExcludeDispatchKeyGuard(_KEYS):
            found: list[Tensor] = []
            _each(args, found.append)
            wide = any(tensor.dtype == torch.float32 for tensor in found)
            return op(*(_each(args, _wide) if wide else args), **kwargs)

    return run


def _wide(tensor: Tensor) -> Tensor:
    return tensor.to(torch.float32) if tensor.dtype != torch.float64 else tensor


def _each(values: Iterable[Any], convert: Callable[[Tensor], Any]) -> list[Any]:
    """Values with all floating-point tensors converted, those of lists too."""
    return [
        _each(value, convert)
        if isinstance(value, list | tuple)
        else convert(value)
        if isinstance(value, Tensor) and value.is_floating_point()
        else value
        for value in values
    ]
