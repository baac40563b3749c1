"""Which layers to trace: a few where the stack repeats, all where it does not."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import lcm
from typing import Any

UNITS = 3
_WORTH = 0.8
"""A cut stack has at most this share of the layers: a cut that saves less is not worth its checks."""
_DECODER_FIELDS = ("decoder_layers", "num_decoder_layers")
"""Where a configuration describes an encoder too, AutoModelForCausalLM builds the decoder."""


@dataclass(frozen=True, slots=True)
class Depth:
    """`layers` in the model, `traced` of them; whole when nothing is extrapolated.

    Traced are `lead` layers that are not like the others, three units of `period`, and what remains at the end.
    """

    layers: int
    period: int
    traced: int
    lead: int = 0

    @property
    def whole(self) -> bool:
        """Whether every layer is traced."""
        return self.traced == self.layers

    @property
    def rest(self) -> int:
        """Traced layers after the units."""
        return self.traced - self.lead - UNITS * self.period

    def unit(self, layer: int) -> int:
        """The unit of a traced layer (planner.stream's FIRST, REPEATED, LAST, or beyond); -1 outside units."""
        if layer < self.lead or self.whole:
            return -1
        return (layer - self.lead) // self.period

    def kept(self) -> Iterator[int]:
        """The layers of the model that the traced ones are."""
        yield from range(self.traced - self.rest)
        yield from range(self.layers - self.rest, self.layers)


def layer_field(config: Any) -> str:
    """The configuration's own name for its number of layers."""
    names = (*_DECODER_FIELDS, config.attribute_map.get("num_hidden_layers", "num_hidden_layers"))
    return next((name for name in names if hasattr(config, name)), names[-1])


def layer_count(config: Any) -> int:
    """Layers of the decoder; 0 where the configuration does not say."""
    return getattr(config, layer_field(config), 0)


def whole_depth(layers: int) -> Depth:
    """Every layer traced."""
    return Depth(layers, layers, layers)


def choose_depth(config: Any, checkpoint_period: int, kinds: Sequence[Hashable] = ()) -> Depth:
    """The smallest stack that shows everything the whole one does. `kinds`: what the built layers are."""
    layers = layer_count(config)
    if kinds and len(kinds) != layers:
        return whole_depth(len(kinds))
    seen: dict[Hashable, int] = {}
    columns = [[repr(item) for item in column] for column in _columns(config, layers)]
    pattern = [
        seen.setdefault((*(column[i] for column in columns), kinds[i] if kinds else None), len(seen))
        for i in range(layers)
    ]
    every = checkpoint_period or 1
    found = (
        _stack(pattern, lead, period) for period in range(every, layers, every) for lead in range(layers)
    )
    best = min(
        (depth for depth in found if depth is not None), key=lambda d: (d.traced, d.lead), default=None
    )
    return best or Depth(layers, lcm(_period(pattern), every), layers)


def cut(config: Any, values: Mapping[str, Any], traced: int, rest: int = 0) -> dict[str, Any]:
    """config.json's content for a stack of `traced` layers, `rest` of them the last; per-layer lists cut to match."""
    layers = layer_count(config)
    values = {
        k: [*v[: traced - rest], *v[layers - rest :]] if _is_per_layer(v, layers) else v
        for k, v in values.items()
    }
    return {**values, layer_field(config): traced}


def _stack(pattern: Sequence[int], lead: int, period: int) -> Depth | None:
    """The pattern from `lead` on in units of `period`; None where it repeats too few times."""
    end = lead + period
    while end < len(pattern) and pattern[end] == pattern[end - period]:
        end += 1
    units = (end - lead) // period
    traced = len(pattern) - (units - UNITS) * period
    return Depth(len(pattern), period, traced, lead) if traced <= _WORTH * len(pattern) else None


def _period(pattern: Sequence[int]) -> int:
    layers = len(pattern)
    for period in range(1, layers):
        if all(pattern[i] == pattern[i % period] for i in range(layers)):
            return period
    return max(layers, 1)


def _columns(config: Any, layers: int) -> list[Any]:
    return [value for value in config.to_dict().values() if _is_per_layer(value, layers)]


def _is_per_layer(value: Any, layers: int) -> bool:
    return isinstance(value, (list, tuple)) and len(value) == layers > 0
