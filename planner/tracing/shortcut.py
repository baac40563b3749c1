"""Results of elementwise ops on meta tensors without torch's Python references, which take 1 ms each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

_aten = torch.ops.aten
_FUNCTIONAL = frozenset(
    getattr(_aten, name)
    for name in (
        "add", "sub", "mul", "div", "neg", "pow", "rsqrt", "sqrt", "reciprocal", "exp", "silu", "silu_backward", "gelu",
        "gelu_backward", "sigmoid", "sigmoid_backward", "tanh", "tanh_backward", "relu",
    )
)  # fmt: skip
_IN_PLACE = frozenset(
    getattr(_aten, name)
    for name in ("add_", "sub_", "mul_", "div_", "lerp_", "addcdiv_", "addcmul_", "bernoulli_")
)
_NO = object()


def shortcut(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any] | None) -> Any:
    """The op's result where it follows from its operands' common shape and layout; `declined(result)` where not."""
    packet = func.overloadpacket
    if packet in _IN_PLACE:
        return args[0] if args[0].device.type == "meta" else _NO
    if packet in _OTHERS and not kwargs:
        return _OTHERS[packet](func, *args)
    if packet not in _FUNCTIONAL or func._schema.returns[1:] or "out" in (kwargs or ()):
        return _NO
    tensors = [arg for arg in args if isinstance(arg, Tensor)]
    first = tensors[0]
    if not _is_usual(first):
        return _NO
    layout = (first.shape, first.stride(), first.dtype)
    if any((t.shape, t.stride(), t.dtype) != layout for t in tensors[1:]):
        return _broadcast(*tensors) if len(tensors) == 2 else _NO
    return _like(first)


def _like(tensor: Tensor) -> Tensor:
    """torch.empty_like, which is a Python reference of its own for meta tensors."""
    return tensor.new_empty(tensor.shape) if tensor.is_contiguous() else torch.empty_like(tensor)


def _is_usual(tensor: Tensor) -> bool:
    return bool(tensor.device.type == "meta" and tensor.is_floating_point() and tensor.dim())


def _broadcast(left: Tensor, right: Tensor) -> Any:
    """As one operand where the other only repeats within it: the first decides on the layout (TensorIterator.cpp,
    `reorder_dimensions`), so a second one has to be laid out like it, in order."""
    if left.dtype != right.dtype or not _is_usual(right):
        return _NO
    if _repeats_in(right, left):
        return _like(left)
    ordered = left.is_contiguous() and right.is_contiguous()
    return _like(right) if ordered and _repeats_in(left, right) else _NO


def _repeats_in(small: Tensor, large: Tensor) -> bool:
    if small.dim() > large.dim():
        return False
    pairs = zip(reversed(small.shape), reversed(large.shape), strict=False)
    return all(one in (1, other) for one, other in pairs)


def _cat(_func: Any, tensors: Sequence[Tensor], dim: int = 0) -> Any:
    first = tensors[0]
    if not all(t.dtype == first.dtype and t.dim() == first.dim() and _in_order(t) for t in tensors):
        return _NO
    if not _is_usual(first):
        return _NO
    shape = list(first.shape)
    shape[dim] = sum(t.shape[dim] for t in tensors)
    return first.new_empty(shape)


def _in_order(tensor: Tensor) -> bool:
    """Whether results are laid out in order: its rows are, so its channels don't come last (TensorShape.cpp,
    `cat_compute_output_memory_format`)."""
    return tensor.is_contiguous() or (tensor.stride(-1) == 1 and 1 not in tensor.shape)


def _reduced(func: Any, tensor: Tensor, dims: Any = None, keepdim: bool = False) -> Any:
    """Reductions lay their results out in order (ReduceOpsUtils.h, `create_reduction_result`)."""
    if func not in _OVER_DIMENSIONS or not dims or not _is_usual(tensor):
        return _NO
    gone = {dim % tensor.dim() for dim in dims}
    shape = [
        1 if place in gone else size
        for place, size in enumerate(tensor.shape)
        if keepdim or place not in gone
    ]
    return tensor.new_empty(shape)


def _norm(_func: Any, tensor: Tensor, *order: Any) -> Any:
    return tensor.new_empty(()) if len(order) < 2 and _is_usual(tensor) else _NO


_OVER_DIMENSIONS = (_aten.mean.dim, _aten.sum.dim_IntList)
_OTHERS: Mapping[Any, Callable[..., Any]] = {
    _aten.cat: _cat,
    _aten.mean: _reduced,
    _aten.sum: _reduced,
    _aten.linalg_vector_norm: _norm,
}


def declined(result: Any) -> bool:
    """Whether the op itself has to run."""
    return result is _NO
