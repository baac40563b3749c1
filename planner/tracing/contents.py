"""Answers to questions about the contents of tensors that have none: what a batch of real tokens makes likely.

Every expert gets tokens, and each as many as the next; attention masks are full unless the recipe pads; a
number that is asked for is one, or its place in a list of what was chosen.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

_aten = torch.ops.aten
_EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")


@dataclass(frozen=True, slots=True)
class Contents:
    """What is assumed of a model's tensors. `experts`: among how many a token chooses."""

    mask_is_full: bool
    experts: int = 1
    _chosen: dict[int, weakref.ref[Any]] = field(default_factory=dict)
    """Storages of lists of what was chosen, by address: an address may be another storage's by now."""

    def answer(self, func: Any, args: Sequence[Any]) -> Any:
        """The result of an op that reads contents; None for every other op."""
        if func is _aten._local_scalar_dense.default:
            return self._number(args[0])
        if func is _aten.nonzero.default:
            return self._indices(args[0])
        if func is _aten.index.Tensor and any(_is_mask(index) for index in args[1]):
            return func(args[0], [index for given in args[1] for index in self._positions(given)])
        if func in (_aten.split_with_sizes.default, _aten.split_with_sizes_copy.default):
            return _split_evenly(func, args)
        return None

    def _number(self, asked: Tensor) -> bool | int:
        if asked.dtype == torch.bool:
            return self.mask_is_full
        untyped = asked.untyped_storage()
        known = self._chosen.get(untyped._cdata)
        return int(asked.storage_offset()) if known is not None and known() is untyped else 1

    def _indices(self, mask: Tensor) -> Tensor:
        """Where it is true. Of a list, the first ones: an expert's number decides whether it computes anything."""
        found = mask.new_empty((self._true(mask), mask.dim()), dtype=torch.long)
        if mask.dim() == 1:
            untyped = found.untyped_storage()
            self._chosen[untyped._cdata] = weakref.ref(untyped)
        return found

    def _true(self, mask: Tensor) -> int:
        """Of a list (which experts were chosen) all; of a table (which tokens chose an expert) an expert's share."""
        if mask.dim() < 2:
            return min(mask.numel(), self.experts) if self.experts > 1 else mask.numel()
        return -(-mask.numel() // self.experts)

    def _positions(self, index: Any) -> list[Any]:
        if not _is_mask(index):
            return [index]
        return list(index.new_empty((self._true(index), index.dim()), dtype=torch.long).unbind(1))


def _split_evenly(func: Any, args: Sequence[Any]) -> Any:
    """Where the sizes are numbers that were asked for (all one, and too few), each part gets as many as the next."""
    tensor, sizes, dim = (*args, 0)[:3]
    rows = tensor.shape[dim]
    if sum(sizes) == rows or set(sizes) != {1}:
        return None
    share, more = divmod(rows, len(sizes))
    return func(tensor, [share + (part < more) for part in range(len(sizes))], dim)


def experts_of(config: Any) -> int:
    """Experts that a configuration's router chooses among, those that compute nothing included; 1 without a router."""
    parts = [config, *(getattr(config, name, None) for name in getattr(config, "sub_configs", {}))]
    found = (getattr(part, name, None) for part in parts for name in _EXPERTS)
    chosen_among = max((count for count in found if isinstance(count, int)), default=1)
    return max(chosen_among + (getattr(config, "zero_expert_num", 0) or 0), 1)


def _is_mask(index: Any) -> bool:
    return isinstance(index, Tensor) and index.dtype in (torch.bool, torch.uint8)
