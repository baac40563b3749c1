"""Target modules that a configuration restricts to some layers, or takes some out of, as one expression."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ..patterns import REGEX
from .values import Values

_SEGMENTS = r"(?:(?!\d+\.)[^.]+\.)"
"""A part of a module's path that is no number: PEFT takes the first number for the layer's."""


def narrowed(
    values: Values, modules: str | None, *, layers: str, pattern: str, left_out: str | None = None
) -> str | None:
    """`modules` (names with commas, or an expression) within the layers that the key `layers` numbers, without those
    that `left_out` names (peft/tuners/tuners_utils.py, `check_target_module_exists`).

    Where the modules themselves depend on the model, these keys are not understood.
    """
    numbers = values.indices(layers)
    stacks = tuple((values.listed(pattern) or "").split(",")) if pattern in values else ()
    excluded = values.modules(left_out, every="", expressions=True) if left_out else None
    if numbers is None and excluded is None:
        return modules
    is_expression = modules is not None and modules.startswith(REGEX)
    if modules is None or modules == "all-linear" or (numbers is not None and is_expression):
        for name in filter(None, (layers, pattern, left_out)):
            if name in values and not values.is_off(name):
                values.not_understood(name)
        return modules
    found = modules.removeprefix(REGEX) if is_expression else _ending(modules.split(","))
    if numbers is not None:
        found = f"{_within(numbers, [s for s in stacks if s])}(?:.*\\.)?{_any(modules.split(','))}"
    if excluded is not None:
        without = excluded.removeprefix(REGEX) if excluded.startswith(REGEX) else _ending(excluded.split(","))
        found = f"(?!(?:{without})$){found}"
    return f"{REGEX}{found}"


def _within(numbers: Sequence[int], stacks: Sequence[str]) -> str:
    """The beginning of the path of a module in one of these layers; `stacks`: patterns of what holds the layers."""
    of = "|".join(map(str, numbers))
    before = f"{_SEGMENTS}*(?:{'|'.join(stacks)})\\." if stacks else f"{_SEGMENTS}{{2,}}"
    return f"{before}(?:{of})\\."


def _ending(names: Sequence[str]) -> str:
    """Paths that are, or end in, one of these names."""
    return f"(?:.*\\.)?{_any(names)}"


def _any(names: Sequence[str]) -> str:
    return f"(?:{'|'.join(map(re.escape, names))})"
