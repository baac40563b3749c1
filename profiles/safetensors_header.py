"""What a safetensors file holds, from its header alone.

Layout (https://github.com/huggingface/safetensors#format): 8 bytes with the header's length, little-endian;
the header, a JSON object of name to dtype, shape and data_offsets; the data, without gaps.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import LplanError

# https://docs.rs/safetensors/latest/safetensors/tensor/enum.Dtype.html
_DTYPES: Mapping[str, tuple[str, int]] = {
    "BOOL": ("bool", 8),
    "F4": ("float4_e2m1fn", 4),
    "F6_E2M3": ("float6_e2m3fn", 6),
    "F6_E3M2": ("float6_e3m2fn", 6),
    "U8": ("uint8", 8),
    "I8": ("int8", 8),
    "F8_E5M2": ("float8_e5m2", 8),
    "F8_E4M3": ("float8_e4m3fn", 8),
    "F8_E5M2FNUZ": ("float8_e5m2fnuz", 8),
    "F8_E4M3FNUZ": ("float8_e4m3fnuz", 8),
    "F8_E8M0": ("float8_e8m0fnu", 8),
    "I16": ("int16", 16),
    "U16": ("uint16", 16),
    "F16": ("float16", 16),
    "BF16": ("bfloat16", 16),
    "I32": ("int32", 32),
    "U32": ("uint32", 32),
    "F32": ("float32", 32),
    "C64": ("complex64", 64),
    "F64": ("float64", 64),
    "I64": ("int64", 64),
    "U64": ("uint64", 64),
}

DTYPE_NAMES: Mapping[str, str] = {code: name for code, (name, _) in _DTYPES.items()}
"""torch's name of a safetensors dtype code."""

DTYPE_BITS: Mapping[str, int] = dict(_DTYPES.values())
"""Bits of one element, by torch's name."""

_LONGEST_HEADER_BYTES = 100_000_000  # the format's own limit


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """One tensor of a file. `dtype` is torch's name."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    stored_bytes: int
    start: int
    """The byte of the file that it begins at."""

    @property
    def elements(self) -> int:
        """How many values it holds."""
        return math.prod(self.shape)


def read_header(path: Path) -> tuple[StoredTensor, ...]:
    """The tensors of a safetensors file, in the header's order; the data is not read.

    Raises LplanError when the file is cut short, or its header is no safetensors header.
    """
    header, data_start, data_bytes = _header_json(path)
    tensors = tuple(
        _tensor(path, name, entry, data_start) for name, entry in header.items() if name != "__metadata__"
    )
    described = sum(tensor.stored_bytes for tensor in tensors)
    if described > data_bytes:
        raise _corrupt(path, f"its header describes {described:,} bytes of data, {data_bytes:,} are there")
    if described < data_bytes:
        raise _corrupt(path, f"it holds {data_bytes - described:,} bytes that its header does not describe")
    for tensor in tensors:
        if tensor.start + tensor.stored_bytes > data_start + data_bytes:
            raise _corrupt(path, f"{tensor.name!r} would lie behind its end")
    return tensors


def _header_json(path: Path) -> tuple[dict[str, Any], int, int]:
    """The header as JSON, where the data begins, and how many bytes of it there are."""
    try:
        with path.open("rb") as file:
            file_bytes = path.stat().st_size
            prefix = file.read(8)
            length = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else None
            if length is None or length > file_bytes - 8:
                raise _corrupt(path, f"it is cut short at {file_bytes:,} bytes")
            if length > _LONGEST_HEADER_BYTES:
                raise _corrupt(path, f"its header would be {length:,} bytes long")
            header = json.loads(file.read(length))
    except OSError as error:
        raise LplanError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise _corrupt(path, "its header is not JSON") from error
    if not isinstance(header, dict):
        raise _corrupt(path, "its header is not a JSON object")
    return header, 8 + length, file_bytes - 8 - length


def _tensor(path: Path, name: str, entry: Any, data_start: int) -> StoredTensor:
    try:
        dtype, shape, (begin, end) = DTYPE_NAMES[entry["dtype"]], tuple(entry["shape"]), entry["data_offsets"]
        tensor = StoredTensor(name, dtype, shape, end - begin, data_start + begin)
        sound = all(isinstance(size, int) and size >= 0 for size in (*shape, begin, end))
        sound = sound and tensor.elements * DTYPE_BITS[dtype] == tensor.stored_bytes * 8
    except (KeyError, TypeError, ValueError) as error:
        raise _corrupt(path, f"its header entry for {name!r} is broken") from error
    if not sound:
        raise _corrupt(path, f"shape and size of {name!r} contradict each other")
    return tensor


def _corrupt(path: Path, what: str) -> LplanError:
    return LplanError(f"{path} is not a sound safetensors file: {what}", hint="download or save it again")
