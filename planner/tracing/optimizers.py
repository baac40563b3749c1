"""Optimizers as a trace may run them: those whose kernels refuse tensors without storage only make their states."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from ..recipe import Recipe

_BLOCK_8BIT = 256
_SMALLEST_8BIT = 4096
"""Parameters with fewer elements keep fp32 states (bitsandbytes/optim/optimizer.py, `min_8bit_size`)."""
_SMALLEST_PAGED = 100_000
"""States with fewer elements are no managed memory but PyTorch's (the same file, `get_state_buffer`)."""
_WITHOUT_DECAY = (r"bias", r"layernorm", r"rmsnorm", r"(?:^|\.)norm(?:$|\.)", r"_norm(?:$|\.)")
"""Names of the Trainer's second group (transformers/trainer.py, `get_decay_parameter_names`)."""
_States = Callable[[Tensor], Mapping[str, Tensor]]


def make_optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """The recipe's optimizer on the recipe's device, over what is trained of a model."""
    parameters = _groups(model, recipe)
    foreach = recipe.device == "cuda"
    if recipe.optimizer in _STATES:
        return _StatesOnly(parameters, _states_of(model, recipe))
    if recipe.optimizer == "adafactor":
        from transformers.optimization import Adafactor

        return Adafactor(parameters, lr=1e-4, scale_parameter=False, relative_step=False)  # type: ignore[no-any-return]
    if recipe.optimizer.startswith("sgd"):
        momentum = 0.9 if recipe.optimizer == "sgd-momentum" else 0.0
        return torch.optim.SGD(parameters, lr=1e-4, momentum=momentum, foreach=foreach)
    return torch.optim.AdamW(parameters, lr=1e-4, foreach=foreach)


def _groups(model: nn.Module, recipe: Recipe) -> list[dict[str, Any]]:
    """What is trained, in the order of its steps: transformers' Trainer has biases and norms, which decay does not
    touch, in a group of their own behind all else (trainer.py, `create_optimizer`, `get_decay_parameter_names`).

    Who updates one parameter after another still holds what it made for the one before.
    """
    from transformers.trainer_pt_utils import get_parameter_names

    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    if recipe.loop != "trainer":
        return [{"params": list(trained.values())}]
    decayed = set(get_parameter_names(model, [nn.LayerNorm], _WITHOUT_DECAY))
    return [
        {"params": [parameter for name, parameter in trained.items() if (name in decayed) is decays]}
        for decays in (True, False)
    ]


class _StatesOnly(torch.optim.Optimizer):
    """An optimizer's states without its arithmetic: fused kernels update in place and allocate nothing else."""

    def __init__(self, groups: Iterable[dict[str, Any]], states: _States) -> None:
        super().__init__(groups, {})
        self.states = states

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for parameter in chain.from_iterable(group["params"] for group in self.param_groups):
            if parameter.grad is not None and not self.state[parameter]:
                self.state[parameter] = dict(self.states(parameter))


def _states_of(model: nn.Module, recipe: Recipe) -> _States:
    """What each parameter's states are. transformers' Trainer has embeddings optimized in 32 bits where the rest is in
    8 (trainer.py, `register_module_override`): a tied head with them."""
    usual = _STATES[recipe.optimizer]
    if recipe.optimizer not in _WIDE or recipe.loop != "trainer":
        return usual
    embeddings = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    wide = _WIDE[recipe.optimizer]
    return lambda parameter: (wide if id(parameter) in embeddings else usual)(parameter)


def _fused(parameter: Tensor) -> dict[str, Tensor]:
    """torch/optim/adam.py, `_init_group`: two states in the parameter's dtype, one step count."""
    states = {name: torch.zeros_like(parameter) for name in ("exp_avg", "exp_avg_sq")}
    return {**states, "step": parameter.new_zeros((), dtype=torch.float32)}


def _in_32_bits(parameter: Tensor) -> dict[str, Tensor]:
    """bitsandbytes' AdamW, whatever the parameter's dtype."""
    return {name: torch.zeros_like(parameter, dtype=torch.float32) for name in ("state1", "state2")}


def _in_8_bits(parameter: Tensor) -> dict[str, Tensor]:
    """bitsandbytes/optim/optimizer.py, `Optimizer2State.init_state`: a byte an element, a scale a block."""
    if parameter.numel() < _SMALLEST_8BIT:
        return _in_32_bits(parameter)
    states = {name: torch.zeros_like(parameter, dtype=torch.uint8) for name in ("state1", "state2")}
    return states | _block_scales(parameter)


def _block_scales(parameter: Tensor) -> dict[str, Tensor]:
    blocks = -(-parameter.numel() // _BLOCK_8BIT)
    return {name: parameter.new_zeros(blocks, dtype=torch.float32) for name in ("absmax1", "absmax2")}


def _lion(parameter: Tensor) -> dict[str, Tensor]:
    return {"state1": torch.zeros_like(parameter, dtype=torch.float32)}


def _paged(parameter: Tensor) -> dict[str, Tensor]:
    """Large states are managed memory, outside PyTorch's allocator: the driver pages it out when the device is full."""
    return _in_32_bits(parameter) if parameter.numel() < _SMALLEST_PAGED else {}


def _paged_in_8_bits(parameter: Tensor) -> dict[str, Tensor]:
    """The scales of paged states stay where all else is."""
    return _in_8_bits(parameter) if parameter.numel() < _SMALLEST_PAGED else _block_scales(parameter)


_STATES: Mapping[str, _States] = {
    "adamw-fused": _fused,
    "adamw-8bit": _in_8_bits,
    "lion": _lion,
    "paged-adamw": _paged,
    "paged-adamw-8bit": _paged_in_8_bits,
}
_WIDE: Mapping[str, _States] = {"adamw-8bit": _in_32_bits, "paged-adamw-8bit": _paged}
