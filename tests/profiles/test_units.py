"""Sizes: what the contract says, and that parsing undoes formatting."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lplan.profiles.errors import UsageError
from lplan.profiles.units import GIB, MIB, format_size, gib, parse_size


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [
        ("8G", 8 * 2**30),
        ("8GiB", 8 * 2**30),
        ("8GB", 8 * 10**9),
        ("8g", 8 * 2**30),
        ("8gib", 8 * 2**30),
        ("8gb", 8 * 10**9),
        ("512M", 512 * 2**20),
        ("512MB", 512 * 10**6),
        ("1.5G", 3 * 2**29),
        (".5G", 2**29),
        ("1T", 2**40),
        ("2TB", 2 * 10**12),
        ("64K", 2**16),
        ("64kB", 64_000),
        ("123", 123),
        ("123B", 123),
        (" 8 GiB ", 8 * 2**30),
    ],
)
def test_sizes_as_people_write_them(text: str, size_bytes: int) -> None:
    assert parse_size(text) == size_bytes


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "8X",
        "G",
        "-1",
        "-8G",
        "0",
        "0G",
        "0.0000000001G",
        "8 G B",
        "8,5G",
        "1e9",
        "8GiBB",
        "nan",
        "inf",
        "8P",
    ],
)
def test_nonsense_is_refused_with_a_hint(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_size(text)
    assert caught.value.hint
    assert caught.value.exit_code == 2


def test_absurdly_long_numbers_are_refused() -> None:
    with pytest.raises(UsageError):
        parse_size("9" * 400 + "T")


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [
        (8 * GIB, "8.00 GiB"),
        (GIB // 2, "0.50 GiB"),
        (7_636_500_480, "7.11 GiB"),
        (100 * MIB, "100.0 MiB"),
        (1, "0.0 MiB"),
        (0, "0.0 MiB"),
        (-GIB, "-1.00 GiB"),
    ],
)
def test_output_is_gib_with_two_decimals(size_bytes: int, text: str) -> None:
    assert format_size(size_bytes) == text


def test_bare_number_for_a_column_of_gib() -> None:
    assert gib(3 * 2**29) == "1.50"


# Above 2**53 a float no longer tells neighbouring bytes apart: 8 PiB.
@given(st.integers(1, 2**53))
def test_a_number_of_bytes_is_itself(size_bytes: int) -> None:
    assert parse_size(str(size_bytes)) == size_bytes


@given(st.integers(MIB, 2**50))
def test_parsing_undoes_formatting_to_its_last_digit(size_bytes: int) -> None:
    half_a_digit = 0.005 * GIB if size_bytes >= GIB // 10 else 0.05 * MIB
    assert abs(parse_size(format_size(size_bytes)) - size_bytes) <= half_a_digit + 1


@given(st.integers(1, 10**6), st.sampled_from("kMGT"))
def test_binary_prefixes_outgrow_decimal_ones(number: int, prefix: str) -> None:
    assert (
        parse_size(f"{number}{prefix}")
        == parse_size(f"{number}{prefix}iB")
        > parse_size(f"{number}{prefix}B")
    )
