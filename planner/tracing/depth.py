"""Which layers to trace: a few where the stack repeats, all where it does not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import lcm
from typing import Any

UNITS = 3


@dataclass(frozen=True, slots=True)
class Depth:
    """`layers` in the model, `traced` of them, in units of `period`; whole when nothing is extrapolated."""

    layers: int
    period: int
    traced: int

    @property
    def whole(self) -> bool:
        """Whether every layer is traced."""
        return self.traced == self.layers

    def unit(self, layer: int) -> int:
        """The unit of a traced layer (planner.stream's FIRST, REPEATED, LAST, or beyond); -1 outside layers."""
        if layer < 0 or self.whole:
            return -1
        return layer // self.period


def choose_depth(config: Any, checkpoint_period: int) -> Depth:
    """The smallest stack that shows everything the whole one does."""
    layers = config.num_hidden_layers
    period = lcm(_period(config, layers), checkpoint_period or 1)
    traced = UNITS * period + layers % period
    return Depth(layers, period, traced) if traced < layers else Depth(layers, period, layers)


def cut(config: Any, values: Mapping[str, Any], traced: int) -> dict[str, Any]:
    """config.json's content for a stack of `traced` layers, per-layer lists cut to match."""
    layers = config.num_hidden_layers
    name = config.attribute_map.get("num_hidden_layers", "num_hidden_layers")
    values = {k: v[:traced] if _is_per_layer(v, layers) else v for k, v in values.items()}
    return {**values, name: traced}


def _period(config: Any, layers: int) -> int:
    columns = [value for value in config.to_dict().values() if _is_per_layer(value, layers)]
    for period in range(1, layers):
        if all(column[i] == column[i % period] for column in columns for i in range(layers)):
            return period
    return layers


def _is_per_layer(value: Any, layers: int) -> bool:
    return isinstance(value, (list, tuple)) and len(value) == layers
