"""Rows out of data files, one at a time, each with the place it was read from."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from ...profiles.errors import LplanError
from .rows import Row

Rows = Iterator[tuple[str, Row]]


def csv_rows(path: Path, delimiter: str = ",") -> Rows:
    """Rows of a CSV file whose first line names the columns; a field may be of any length."""
    csv.field_size_limit(max(csv.field_size_limit(), 2**31 - 1))
    reader = csv.reader(_lines(path), delimiter=delimiter, strict=True)
    columns: list[str] | None = None
    try:
        for cells in reader:
            if not cells:
                continue
            if columns is None:
                columns = [c.strip() for c in cells]
                continue
            where = f"{path.name}, line {reader.line_num}"
            if len(cells) != len(columns):
                message = f"{where}: {len(cells)} fields where the head names {len(columns)}"
                raise LplanError(message, hint=f'put a text that contains "{delimiter}" in double quotes')
            yield where, dict(zip(columns, cells, strict=True))
    except csv.Error as error:
        message = f"{path.name}, line {reader.line_num}: broken CSV: {error}"
        raise LplanError(message, hint='write a double quote inside a quoted text twice: ""') from error


def tsv_rows(path: Path) -> Rows:
    """Rows of a CSV file with tabs for commas."""
    return csv_rows(path, delimiter="\t")


def json_rows(path: Path) -> Rows:
    """Rows of a file with one JSON object a line, or of one JSON array of objects."""
    lines = _lines(path)
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        if number == 1 and line.lstrip().startswith("["):
            yield from _array_rows(path, line + "".join(lines))
            return
        where = f"{path.name}, line {number}"
        yield where, _object(_parse(line, where), where)


def _array_rows(path: Path, text: str) -> Rows:
    values = _parse(text, path.name)
    assert isinstance(values, list)
    for number, value in enumerate(values, start=1):
        where = f"{path.name}, element {number}"
        yield where, _object(value, where)


def _parse(text: str, where: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise LplanError(f"{where}: broken JSON: {error}", hint="one complete JSON object a line") from error


def _object(value: object, where: str) -> Mapping[str, object]:
    if not isinstance(value, dict):
        raise LplanError(
            f"{where}: a JSON {type(value).__name__}, not an object", hint='write {"prompt": ...}'
        )
    return value


def parquet_rows(path: Path) -> Rows:
    """Rows of a Parquet file. Raises LplanError when the optional package pyarrow is missing."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise LplanError("reading Parquet needs pyarrow", hint="pip install 'lplan[parquet]'") from error
    number = 0
    try:
        for batch in pyarrow.parquet.ParquetFile(path).iter_batches(batch_size=1024):
            for row in batch.to_pylist():
                number += 1
                yield f"{path.name}, row {number}", row
    except pyarrow.ArrowException as error:
        raise LplanError(f"{path.name} is no readable Parquet file", hint=_first_line(error)) from error


READERS: Mapping[str, Callable[[Path], Rows]] = {
    ".csv": csv_rows,
    ".tsv": tsv_rows,
    ".jsonl": json_rows,
    ".ndjson": json_rows,
    ".json": json_rows,
    ".parquet": parquet_rows,
}
"""The reader for every suffix."""


def file_rows(path: Path) -> Rows:
    """Rows of a file, read by its suffix, which must be one of `READERS`.

    Raises LplanError for a file that is empty, broken, not UTF-8 or not readable.
    """
    with readable(path):
        if path.stat().st_size == 0:
            raise LplanError(f"{path.name} is empty", hint="was it written to its end?")
        yield from READERS[path.suffix.lower()](path)


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turns what the system says of an unreadable file into an error for the user."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or _first_line(error)
        raise LplanError(
            f"{path} can't be read: {reason}", hint="check the path and its permissions"
        ) from error


def _lines(path: Path) -> Iterator[str]:
    """Decoded lines, of any length, so that a wrong byte is reported with its line."""
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            yield _decode(line, number, path)


def _decode(line: bytes, number: int, path: Path) -> str:
    try:
        return line.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as error:
        encoding = "utf-16" if line.startswith((b"\xff\xfe", b"\xfe\xff")) else "windows-1252"
        hint = f"convert it: iconv -f {encoding} -t utf-8 {path.name}"
        raise LplanError(f"{path.name}, line {number}: not UTF-8", hint=hint) from error


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
