"""What a GGUF file holds, from its header alone: metadata, and names, shapes and types of its tensors.

Layout: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. The gguf package reads the same in seconds
(it keeps every token of the vocabulary); this takes milliseconds.
"""

from __future__ import annotations

import math
import mmap
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import LplanError

# Type number: name, elements in a block, bytes of a block (gguf.constants.GGML_QUANT_SIZES).
GGML_TYPES: Mapping[int, tuple[str, int, int]] = {
    0: ("F32", 1, 4),
    1: ("F16", 1, 2),
    2: ("Q4_0", 32, 18),
    3: ("Q4_1", 32, 20),
    6: ("Q5_0", 32, 22),
    7: ("Q5_1", 32, 24),
    8: ("Q8_0", 32, 34),
    9: ("Q8_1", 32, 40),
    10: ("Q2_K", 256, 84),
    11: ("Q3_K", 256, 110),
    12: ("Q4_K", 256, 144),
    13: ("Q5_K", 256, 176),
    14: ("Q6_K", 256, 210),
    15: ("Q8_K", 256, 292),
    16: ("IQ2_XXS", 256, 66),
    17: ("IQ2_XS", 256, 74),
    18: ("IQ3_XXS", 256, 98),
    19: ("IQ1_S", 256, 50),
    20: ("IQ4_NL", 32, 18),
    21: ("IQ3_S", 256, 110),
    22: ("IQ2_S", 256, 82),
    23: ("IQ4_XS", 256, 136),
    24: ("I8", 1, 1),
    25: ("I16", 1, 2),
    26: ("I32", 1, 4),
    27: ("I64", 1, 8),
    28: ("F64", 1, 8),
    29: ("IQ1_M", 256, 56),
    30: ("BF16", 1, 2),
    34: ("TQ1_0", 256, 54),
    35: ("TQ2_0", 256, 66),
    39: ("MXFP4", 32, 17),
}

_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
_LONGEST_ARRAY = 4096
_MOST_ENTRIES = 2**20
_MOST_DIMENSIONS = 4
_DEFAULT_ALIGNMENT = 32


@dataclass(frozen=True, slots=True)
class GgufTensor:
    """One tensor; `shape` as GGUF writes it, fastest dimension first."""

    name: str
    type: str
    shape: tuple[int, ...]
    stored_bytes: int

    @property
    def elements(self) -> int:
        """How many values it stands for."""
        return math.prod(self.shape)


@dataclass(frozen=True, slots=True)
class GgufHeader:
    """`metadata` holds scalars and short arrays of numbers; of any array `lengths` holds how long it is."""

    metadata: Mapping[str, Any]
    lengths: Mapping[str, int]
    tensors: tuple[GgufTensor, ...]


def read_gguf_header(path: Path) -> GgufHeader:
    """The header of a GGUF file (version 2 or 3, little-endian). Raises LplanError for anything else."""
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return _Reader(data).header()
    except OSError as error:
        raise LplanError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, ArithmeticError, RecursionError, struct.error) as error:
        raise LplanError(
            f"{path} is not a sound GGUF file: {_reason(error)}", hint="download it again"
        ) from error


def _reason(error: Exception) -> str:
    return str(error) if type(error) is ValueError and error.args else "its header is broken"


class _Reader:
    """A cursor over the file; every read past its end is an error of struct's or a ValueError."""

    def __init__(self, data: mmap.mmap) -> None:
        self.data = data
        self.position = 0

    def header(self) -> GgufHeader:
        if self.data[:4] != b"GGUF":
            raise ValueError("it does not start with GGUF")
        self.position = 4
        version = self.number("I")
        if version not in (2, 3):
            raise ValueError(f"it is of version {version}, not 2 or 3")
        tensor_count, key_count = self.number("Q"), self.number("Q")
        if max(tensor_count, key_count) > _MOST_ENTRIES:
            raise ValueError(f"it claims {tensor_count:,} tensors and {key_count:,} keys")
        metadata: dict[str, Any] = {}
        lengths: dict[str, int] = {}
        for _ in range(key_count):
            self.pair(metadata, lengths)
        infos = [self.tensor() for _ in range(tensor_count)]
        self.check_data(infos, metadata)
        return GgufHeader(metadata, lengths, tuple(tensor for tensor, _ in infos))

    def check_data(self, infos: list[tuple[GgufTensor, int]], metadata: Mapping[str, Any]) -> None:
        alignment = metadata.get("general.alignment", _DEFAULT_ALIGNMENT)
        start = math.ceil(self.position / alignment) * alignment
        end = max((start + offset + tensor.stored_bytes for tensor, offset in infos), default=start)
        if end > len(self.data):
            raise ValueError(f"it is cut short at {len(self.data):,} of {end:,} bytes")

    def number(self, code: str) -> Any:
        value = struct.unpack_from(f"<{code}", self.data, self.position)[0]
        self.position += struct.calcsize(f"<{code}")
        return value

    def text(self) -> str:
        return self.take(self.number("Q")).decode("utf-8")

    def take(self, size: int) -> bytes:
        self.skip(size)
        return self.data[self.position - size : self.position]

    def skip(self, size: int) -> None:
        if size > len(self.data) - self.position:
            raise ValueError("it is cut short inside its header")
        self.position += size

    def pair(self, metadata: dict[str, Any], lengths: dict[str, int]) -> None:
        key, kind = self.text(), self.number("I")
        if kind == _ARRAY:
            values, lengths[key] = self.array()
            if values is not None:
                metadata[key] = values
        else:
            metadata[key] = self.text() if kind == _STRING else self.number(_SCALARS[kind])

    def array(self) -> tuple[list[Any] | None, int]:
        """Values (None unless they are few numbers) and their count."""
        kind, count = self.number("I"), self.number("Q")
        skip_one: Callable[[], object] = self.array if kind == _ARRAY else self.string_skipped
        if kind in (_STRING, _ARRAY):
            for _ in range(count):
                skip_one()
            return None, count
        code = _SCALARS[kind]
        if count > _LONGEST_ARRAY:
            self.skip(count * struct.calcsize(f"<{code}"))
            return None, count
        return [self.number(code) for _ in range(count)], count

    def string_skipped(self) -> None:
        self.skip(self.number("Q"))

    def tensor(self) -> tuple[GgufTensor, int]:
        """A tensor and where its data starts, counted from the first tensor's."""
        name = self.text()
        dimensions = self.number("I")
        if dimensions > _MOST_DIMENSIONS:
            raise ValueError(f"its tensor {name!r} has {dimensions:,} dimensions")
        shape = tuple(self.number("Q") for _ in range(dimensions))
        type_name, block, block_bytes = GGML_TYPES[self.number("I")]
        offset: int = self.number("Q")
        return GgufTensor(name, type_name, shape, math.prod(shape) // block * block_bytes), offset
