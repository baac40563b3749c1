"""The stand-in for the machine: tensors without storage, and the ops that the real device would run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.distributions import Distribution

from ..recipe import Recipe
from .autocast import asked_of_meta, autocast_of_cpu, autocast_of_meta
from .cpu import cpu_attention, cpu_kernels
from .cuda import cuda_attention, cuda_dropout, cuda_kernels, cuda_softmax
from .overrides import replaced
from .patches import patch_every_token

StandIn = Literal["meta", "fake"]
STAND_INS: tuple[StandIn, ...] = ("meta", "fake")
"""Meta tensors are faster. Fake CPU tensors also run what asks for the device, and ops without a meta kernel."""


def on_device(name: str) -> AbstractContextManager[Any]:
    """A context in which new tensors live on `name`."""
    return torch.device(name)


@contextmanager
def prepare_device(model: nn.Module, recipe: Recipe, stand_in: StandIn) -> Iterator[None]:
    """A context in which `model`, built on meta, runs as it would on the recipe's device."""
    on_cuda = recipe.device == "cuda"
    patch_every_token(model)
    with ExitStack() as stack:
        stack.enter_context(_unvalidated())
        stack.enter_context(cuda_kernels() if on_cuda else cpu_kernels())
        if recipe.autocast_dtype is not None:
            autocast = autocast_of_meta if stand_in == "meta" else autocast_of_cpu
            stack.enter_context(autocast(recipe.device))
        if on_cuda:
            stack.enter_context(replaced(F, "softmax", cuda_softmax(F.softmax)))
            stack.enter_context(replaced(F, "dropout", cuda_dropout(F.dropout)))
        if on_cuda or stand_in == "meta":
            attention = cuda_attention(recipe.kernel) if on_cuda else cpu_attention
            stack.enter_context(replaced(F, "scaled_dot_product_attention", attention))
        if stand_in == "fake":
            mode = FakeTensorMode()
            _fake(model, mode)
            stack.enter_context(_read_as_real())
            stack.enter_context(mode)
        else:
            stack.enter_context(asked_of_meta())
            stack.enter_context(torch.device("meta"))
        yield


@contextmanager
def _unvalidated() -> Iterator[None]:
    """A context in which torch's distributions don't ask whether their parameters are in range."""
    validates = Distribution._validate_args
    Distribution.set_default_validate_args(False)
    try:
        yield
    finally:
        Distribution.set_default_validate_args(validates)


def _read_as_real() -> AbstractContextManager[None]:
    """A context in which transformers takes fake tensors for a run, not for a graph in the making: without it no model
    asks what its masks and positions hold, and all of them get a causal mask written out (masking_utils.py,
    `find_packed_sequence_indices`)."""
    from transformers.utils import import_utils

    return replaced(import_utils, "is_fake_tensor", lambda _tensor: False)


def _fake(model: nn.Module, mode: FakeTensorMode) -> None:
    made: dict[int, Any] = {}

    def fake(tensor: Tensor) -> Tensor:
        if id(tensor) not in made:
            with mode:
                twin = torch.empty(tensor.shape, dtype=tensor.dtype, device="cpu")
            if isinstance(tensor, nn.Parameter):
                twin = nn.Parameter(twin, requires_grad=tensor.requires_grad)
            made[id(tensor)] = (twin, tensor)
        return made[id(tensor)][0]  # type: ignore[no-any-return]

    for module in model.modules():
        stores: tuple[dict[str, Any], ...] = (module._parameters, module._buffers)
        for store in stores:
            store.update({name: fake(tensor) for name, tensor in store.items() if tensor is not None})
