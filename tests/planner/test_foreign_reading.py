"""Files that may hold anything: plain data is read, all else is one line and a hint."""

import os

import pytest

from lplan.planner.foreign.reading import read_mapping
from lplan.profiles.errors import UsageError


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("run.json", '{"bf16": true, "nothing": null}', {"bf16": True, "nothing": None}),
        ("run.yaml", "bf16: true\nnothing:\n", {"bf16": True, "nothing": None}),
        ("run.yml", "\ufeffbf16: yes\n", {"bf16": True}),
        ("run.conf", '{"a": 1}', {"a": 1}),
        ("run.yaml", "1: one\n", {"1": "one"}),
    ],
)
def test_plain_data(tmp_path, name, text, expected):
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert read_mapping(tmp_path / name) == expected


@pytest.mark.parametrize(
    ("name", "content", "error"),
    [
        ("run.json", b"{", "is not valid JSON: Expecting property name"),
        ("run.json", b"", "is not valid JSON"),
        ("run.json", b"[" * 100_000, "is not valid JSON: it is nested too deeply"),
        ("run.yaml", b"a: [1\nb: 2\n", "is not valid YAML: .*, line 2"),
        ("run.yaml", b"a:\n\t- 1\n", "is not valid YAML: .*, line 2"),
        ("run.yaml", b"day: 2026-99-99\n", "is not valid YAML"),
        ("run.yaml", b"[" * 3_000, "is not valid YAML: it is nested too deeply"),
        ("run.yaml", b"", "is not a mapping"),
        ("run.yaml", b"- 1\n- 2\n", "is not a mapping"),
        ("run.yaml", b"just words\n", "is not a mapping"),
        ("run.json", b"[]", "is not a mapping"),
        ("run.yaml", b"\xff\xfe\x00\x01", "is not text"),
        ("run.yaml", b"a: 1\n---\nb: 2\n", "is not valid YAML"),
        ("run.yaml", b"#" * (2**20 + 1), "is too large"),
    ],
)
def test_what_is_no_configuration(tmp_path, name, content, error):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UsageError, match=error) as caught:
        read_mapping(tmp_path / name)
    assert caught.value.hint
    assert "\n" not in str(caught.value)


def test_a_tag_that_would_run_code_is_refused(tmp_path):
    trace = tmp_path / "trace"
    (tmp_path / "run.yaml").write_text(f"a: !!python/object/apply:os.mkdir ['{trace}']\n")
    with pytest.raises(UsageError, match="could not determine a constructor"):
        read_mapping(tmp_path / "run.yaml")
    assert not trace.exists()


def test_a_file_that_is_not_there_or_no_file(tmp_path):
    with pytest.raises(UsageError, match=r"there is no .*none\.yaml"):
        read_mapping(tmp_path / "none.yaml")
    with pytest.raises(UsageError, match="is not a file"):
        read_mapping(tmp_path)


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "run.yaml")
    with pytest.raises(UsageError, match="is not a file"):
        read_mapping(tmp_path / "run.yaml")
