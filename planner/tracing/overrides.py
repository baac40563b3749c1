"""Ops of torch, and functions, replaced for a while."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def overridden(key: str, kernels: Mapping[str, Callable[..., Any]]) -> Iterator[None]:
    """A context in which aten's ops run these kernels for tensors of a dispatch key ("Meta", "AutocastCPU")."""
    library = torch.library.Library("aten", "IMPL", key)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        for name, kernel in kernels.items():
            library.impl(name, kernel, allow_override=True)
    try:
        yield
    finally:
        library._destroy()


@contextmanager
def replaced(owner: Any, name: str, function: Callable[..., Any]) -> Iterator[None]:
    """A context in which a module's or a class's function is another."""
    original = getattr(owner, name)
    setattr(owner, name, function)
    try:
        yield
    finally:
        setattr(owner, name, original)
