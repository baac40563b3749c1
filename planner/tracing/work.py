"""What an op computes and moves: the raw material of the time model."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..footprint import Linear
from ..polynomial import MONOMIALS, ZERO, Coefficients, Shape, plus, symbolize, term
from ..recipe import LOSS_CHUNK
from ..stream import REPEATED
from .depth import Depth
from .fused import HEAD_OP
from .shapes import CHUNKS

if TYPE_CHECKING:
    from .tracker import Segment

_aten = torch.ops.aten
_MATMULS = {
    _aten.mm.default: (0, 1),
    _aten.addmm.default: (1, 2),
    _aten.bmm.default: (0, 1),
    _aten.baddbmm.default: (1, 2),
}
_THIN = 64
"""A product with a smaller side (an adapter's rank) is bound by the memory it reads, not by arithmetic."""
_CHUNK_ROWS = MONOMIALS.index("K")
_QUESTIONS = "prim"
"""Namespace of what fake tensors are asked, and no device runs: where they are."""
_RANDOM = ("aten::bernoulli_", "aten::native_dropout")


@dataclass(frozen=True, slots=True)
class Work:
    """`kind` is matmul, attention, traffic or random; `factors` multiply to FLOP, bytes or elements."""

    kind: str
    dtype: str
    factors: tuple[tuple[int, ...], ...]
    """A sum of products: one tuple of dimensions for each operand."""


def is_product(func: Any) -> bool:
    """Whether an op is a matrix product of a BLAS library."""
    return func in _MATMULS


def work_of(func: Any, args: Sequence[Any], outputs: Sequence[Any]) -> Work | None:
    """The work of one dispatched op; None for views and for ops that only make metadata."""
    if func in _MATMULS:
        left, right = (args[i] for i in _MATMULS[func])
        if min(left.shape[-2], left.shape[-1], right.shape[-1]) > _THIN:
            return Work("matmul", _name(left.dtype), ((2, *left.shape, right.shape[-1]),))
    name = func._schema.name
    if name == HEAD_OP:
        return _head(*args)
    if "scaled_dot_product" in name:
        return _attention(name, args)
    if name in _RANDOM:
        return Work("random", _name(args[0].dtype), (tuple(args[0].shape),))
    if _is_view(func) or func.namespace == _QUESTIONS:
        return None
    touched = _tensors((*args, *outputs))
    factors = tuple((t.element_size(), *t.shape) for t in touched if t.dim())
    return Work("traffic", "", factors) if factors else None


def total_work(segments: Sequence[Segment], depth: Depth, shape: Shape | None) -> dict[str, Linear]:
    """The steady step's work by kind: "micro ..." of one micro batch, "optimizer ..." of one optimizer step.

    `shape` is the traced one where the work is a polynomial of it; None takes the numbers as they are.
    Matmul and attention in FLOP, traffic in bytes, random in elements, ops in calls.
    """
    micro_batches = sum(s.stage == "batch" and s.phase == "steady step" for s in segments)
    totals: dict[str, list[list[int]]] = {}
    for segment in segments:
        if segment.phase != "steady step":
            continue
        repeated = depth.unit(segment.layer) == REPEATED
        group = "optimizer" if segment.stage == "optimizer" else "micro"
        for work in segment.work:
            name = f"{group} {work.kind} {work.dtype}".strip()
            _add(totals, name, _polynomial(work, shape), repeated)
            _add(totals, f"{group} ops", term("1", 1), repeated)
    return {
        name: Linear(
            *(
                tuple(c // (micro_batches if name.startswith("micro") else 1) for c in _of_all_tokens(part))
                for part in parts
            )
        )
        for name, parts in totals.items()
    }


def _add(totals: dict[str, list[list[int]]], name: str, amount: Coefficients, repeated: bool) -> None:
    base, per_unit = totals.setdefault(name, [list(ZERO), list(ZERO)])
    for index, value in enumerate(amount):
        base[index] += value
        if repeated:
            per_unit[index] += value


def _polynomial(work: Work, shape: Shape | None) -> Coefficients:
    total = ZERO
    for factors in work.factors:
        amount = prod(factors)
        symbolic = symbolize(amount, factors, 1, shape) if shape is not None else None
        total = plus(total, symbolic or term("1", amount))
    if not total[_CHUNK_ROWS]:
        return total
    read_anew = total[0] // LOSS_CHUNK
    return plus(total, plus(term("K", read_anew), term("1", -total[0])))


def _of_all_tokens(amount: Sequence[int]) -> Coefficients:
    """With all supervised tokens in place of the rows of CHUNKS chunks, however many those tokens make."""
    rows = amount[_CHUNK_ROWS]
    return plus(amount, plus(term("N", rows // CHUNKS), term("K", -rows)))


def _head(hidden: Tensor, weight: Tensor, products: int, _rows: int) -> Work:
    return Work("matmul", _name(hidden.dtype), ((2 * products, *hidden.shape, weight.shape[0]),))


def _attention(name: str, args: Sequence[Any]) -> Work:
    backward = name.endswith("backward")
    query, key = (args[1], args[2]) if backward else (args[0], args[1])
    batch, heads, length, width = query.shape
    products = 5 if backward else 2
    return Work("attention", _name(query.dtype), ((2 * products, batch, heads, length, key.shape[2], width),))


def _is_view(func: Any) -> bool:
    returns = func._schema.returns
    return bool(returns) and all(r.alias_info is not None and not r.alias_info.is_write for r in returns)


def _tensors(values: Iterable[Any]) -> Iterable[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, (tuple, list)):
            yield from _tensors(value)


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
