"""A configuration's values by type, and which of its keys were used."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from ...profiles.errors import UsageError
from ..patterns import REGEX

_T = TypeVar("_T")
_OFF: tuple[Any, ...] = (None, False, 0, "", "none", "no", "off", "false")
_SWITCHES = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
_MODULE = re.compile(r"[\w.-]+")
_LONGEST_VALUE = 40


class Values:
    """The keys of one file. Each method takes a key and its older names: the first that has a value counts.

    `unclear` are the keys whose value means nothing here, with that value as text. Every method raises UsageError
    for a value of another type, and returns None for a key that is absent or null.
    """

    def __init__(self, file: Path, data: Mapping[str, Any]) -> None:
        self.file, self._data = file, data
        self.used: set[str] = set()
        self.unclear: dict[str, str] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._data

    def names(self) -> tuple[str, ...]:
        """Every key, in the file's order."""
        return tuple(self._data)

    def is_off(self, name: str) -> bool:
        """Whether a key's value switches it off: null, false, zero, empty or "none"."""
        value = self._data[name]
        return not value if isinstance(value, (list, dict)) else value in _OFF

    def is_null(self, name: str) -> bool:
        """Whether a key is there without a value."""
        return name in self._data and self._data[name] is None

    def not_understood(self, name: str) -> None:
        """Note a key whose value means nothing here."""
        value = self._data[name]
        text = "" if isinstance(value, (list, dict)) else str(value)
        self.unclear[name] = text if len(text) <= _LONGEST_VALUE else f"{text[: _LONGEST_VALUE - 1]}…"
        self.used.discard(name)

    def whole(self, *names: str, least: int = 1) -> int | None:
        """A whole number, at least `least`."""

        def convert(value: Any) -> int:
            number = _number(value)
            if number != int(number) or number < least:
                raise ValueError
            return int(number)

        return self._take(names, convert, f"a whole number of at least {least}")

    def number(self, *names: str, least: float = 0.0) -> float | None:
        """A finite number, at least `least`. YAML reads 2e-4 as text; it counts as the number."""

        def convert(value: Any) -> float:
            number = _number(value)
            if number < least:
                raise ValueError
            return number

        return self._take(names, convert, f"a number of at least {least:g}")

    def switch(self, *names: str) -> bool | None:
        """True or false."""

        def convert(value: Any) -> bool:
            if isinstance(value, str):
                return _SWITCHES[value.strip().lower()]
            if isinstance(value, (bool, int)) and value in (0, 1):
                return bool(value)
            raise ValueError

        return self._take(names, convert, "true or false")

    def word(self, *names: str) -> str | None:
        """A text."""

        def convert(value: Any) -> str:
            if not isinstance(value, str) or not value.strip():
                raise ValueError
            return value.strip()

        return self._take(names, convert, "a text")

    def choice(self, *names: str, of: Mapping[Any, str]) -> str | None:
        """What a value stands for; a value that `of` lacks is not understood."""
        name = next((name for name in names if self._data.get(name) is not None), None)
        value = self._take(names, _scalar, "a single value")
        if value is None or name is None:
            return None
        found = of.get(value.lower() if isinstance(value, str) else value)
        if found is None:
            self.not_understood(name)
        return found

    def modules(self, *names: str, every: str, expressions: bool = False) -> str | None:
        """Target modules as lplan's text, with `every` as the format's word for all of them.

        A text that is no names with commas between is a regular expression where the format hands texts to PEFT
        (`expressions`), and not understood elsewhere: a module's name is one word.
        """
        name = next((name for name in names if self._data.get(name) is not None), None)
        found = self._take(names, _words, "a list of names")
        if found is None or name is None:
            return None
        if every in found:
            return "all-linear"
        if found and all(_MODULE.fullmatch(word) for word in found):
            return ",".join(found)
        if expressions and found and isinstance(self._data[name], str):
            return f"{REGEX}{self._data[name].strip()}"
        self.not_understood(name)
        return None

    def indices(self, *names: str) -> tuple[int, ...] | None:
        """A whole number from 0 on, or a list of them; None where it is empty."""

        def convert(value: Any) -> tuple[int, ...]:
            return tuple(map(int, _ids(value if isinstance(value, list) else [value])))

        return self._take(names, convert, "a layer's number or a list of them") or None

    def listed(self, *names: str) -> str | None:
        """A list, or names with commas between, as lplan's text; None where it is empty."""
        return ",".join(self._take(names, _words, "a list of names") or ()) or None

    def tokens(self, *names: str) -> str | None:
        """Token ids of the input embeddings; other layers' are not understood."""
        name = next((name for name in names if self._data.get(name) is not None), None)
        if name is not None and isinstance(self._data[name], Mapping):
            self.not_understood(name)
            return None
        return ",".join(self._take(names, _ids, "a list of token ids") or ()) or None

    def patterns(self, *names: str) -> tuple[str, ...] | None:
        """Whole numbers by regular expression, as lplan's texts."""

        def convert(value: Any) -> tuple[str, ...]:
            if not isinstance(value, Mapping) or any(_number(n) != int(_number(n)) for n in value.values()):
                raise ValueError
            return tuple(f"{pattern}={int(_number(n))}" for pattern, n in value.items())

        return self._take(names, convert, "a mapping of expressions to whole numbers") or None

    def toggle(self, *names: str) -> str | None:
        """A switch as lplan's on or off."""
        found = self.switch(*names)
        return None if found is None else "on" if found else "off"

    def mapping(self, *names: str) -> Mapping[str, Any]:
        """A mapping, empty where there is none."""

        def convert(value: Any) -> Mapping[str, Any]:
            if not isinstance(value, Mapping):
                raise ValueError
            return value

        return self._take(names, convert, "a mapping") or {}

    def _take(self, names: tuple[str, ...], convert: Callable[[Any], _T], kind: str) -> _T | None:
        given = [name for name in names if self._data.get(name) is not None]
        self.used.update(given)
        if not given:
            return None
        name, value = given[0], self._data[given[0]]
        try:
            return convert(value)
        except (ValueError, KeyError, OverflowError) as error:
            shown = repr(value) if isinstance(value, (str, int, float)) else f"a {type(value).__name__}"
            raise UsageError(
                f"{name} in {self.file} is {shown[:_LONGEST_VALUE]}, not {kind}",
                hint="correct it, or leave it out and give the value as a flag",
            ) from error


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise ValueError
    number = float(value)
    if not math.isfinite(number):
        raise ValueError
    return number


def _scalar(value: Any) -> Any:
    if isinstance(value, (str, int, float, bool)):
        return value
    raise ValueError


def _ids(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(token, int) and token >= 0 for token in value):
        raise ValueError
    return tuple(str(int(token)) for token in value)


def _words(value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        value = value.split(",")
    if not isinstance(value, list) or not all(isinstance(word, str) for word in value):
        raise ValueError
    return tuple(word.strip() for word in value if word.strip())
