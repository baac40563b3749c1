"""Which format a file is in, what it asks for, and which of its keys changed the answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...profiles.errors import UsageError
from . import axolotl, llama_factory, transformers_arguments
from .reading import read_mapping
from .values import Values


@dataclass(frozen=True, kw_only=True, slots=True)
class Format:
    """A program's configuration: keys that it is known by, that it never has, that change no memory; its reader."""

    name: str
    markers: frozenset[str]
    foreign: frozenset[str]
    harmless: frozenset[str]
    harmless_prefixes: tuple[str, ...]
    features: frozenset[str]
    """Keys that are harmless as long as they are off."""
    read: Callable[[Values], dict[str, Any]]

    def matches(self, names: set[str]) -> bool:
        """Whether a file with these keys is in this format."""
        return bool(self.markers & names) and not self.foreign & names

    def ignores(self, name: str, values: Values) -> bool:
        """Whether a key that was not used changes nothing that is counted."""
        if name in self.features:
            return values.is_off(name)
        return values.is_null(name) or name in self.harmless or name.startswith(self.harmless_prefixes)


FORMATS = tuple(
    Format(
        name=module.NAME,
        markers=module.MARKERS,
        foreign=module.FOREIGN,
        harmless=module.HARMLESS,
        harmless_prefixes=module.HARMLESS_PREFIXES,
        features=module.FEATURES,
        read=module.read,
    )
    for module in (axolotl, llama_factory, transformers_arguments)
)
"""The most particular first: the other two use the Trainer's keys as well."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Reading:
    """What a file asks for. `asked` holds knobs, `effective_batch` and schedule fields, as `make_request` takes them.

    `ignored` keys have no effect on memory; `not_understood` ones may, with their value as text where it is short.
    """

    file: Path
    format: str
    model: str | None
    asked: Mapping[str, Any]
    used: tuple[str, ...]
    ignored: tuple[str, ...]
    not_understood: Mapping[str, str]

    def under(self, flags: Mapping[str, Any]) -> dict[str, Any]:
        """The file's values under the flags that were given (None and () were not): a flag always wins.

        As in the programs themselves, another micro batch keeps the file's accumulation, and a method or a
        quantization of its own takes the other's place.
        """
        given = {name: value for name, value in flags.items() if value not in (None, ())}
        kept = dict(self.asked)
        if "batch_size" in given and "batch_size" in kept:
            kept["effective_batch"] = given["batch_size"] * (kept["effective_batch"] // kept["batch_size"])
        if given.get("method") in ("lora", "full"):
            kept.pop("quantization", None)
        if given.get("quantization") == "none" and kept.get("method") == "qlora":
            kept["method"] = "lora"
        if "quantization" not in kept or given.get("quantization") == "none":
            kept.pop("kbit_preparation", None)
        return {**flags, **{name: value for name, value in kept.items() if name not in given}}

    def document(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "file": str(self.file),
            "format": self.format,
            "used": list(self.used),
            "ignored": list(self.ignored),
            "not_understood": list(self.not_understood),
        }

    def lines(self) -> tuple[str, ...]:
        """What there is to say about it: which format, and one line for each group of keys that were not used."""
        count = f"{len(self.used)} key{'s' if len(self.used) != 1 else ''}"
        said = [f"read {self.file} as {self.format}: used {count}"]
        if self.ignored:
            said.append(f"no effect on memory: {', '.join(self.ignored)}")
        if self.not_understood:
            names = (f"{name} ({value})" if value else name for name, value in self.not_understood.items())
            said.append(f"not understood, and not counted: {', '.join(names)}")
        return tuple(said)


def read_foreign(file: Path) -> Reading:
    """What a training configuration asks for.

    Raises UsageError for a file that cannot be read, is in no known format, holds a value of the wrong type, or
    describes what lplan does not price.
    """
    values = Values(file, read_mapping(file))
    found = next((each for each in FORMATS if each.matches(set(values.names()))), None)
    if found is None:
        raise UsageError(
            f"{file} is no training configuration that lplan knows",
            hint=f"known: {', '.join(each.name for each in FORMATS)} (TRL's SFTConfig included), as JSON or YAML",
        )
    asked = {name: value for name, value in found.read(values).items() if value is not None}
    model = asked.pop("model", None)
    unused = [name for name in values.names() if name not in values.used]
    ignored = tuple(n for n in unused if n not in values.unclear and found.ignores(n, values))
    return Reading(
        file=file,
        format=found.name,
        model=model,
        asked=asked,
        used=tuple(name for name in values.names() if name in values.used),
        ignored=ignored,
        not_understood={n: values.unclear.get(n, "") for n in unused if n not in ignored},
    )
