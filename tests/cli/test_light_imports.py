"""What answers at once imports no framework: checked in a process of its own."""

import json
import os
import subprocess
import sys

import pytest

HEAVY = ("torch", "transformers", "peft", "accelerate", "numpy", "tokenizers", "pyarrow")
WATCHED = f"""
import atexit, json, sys
def tell():
    found = sorted(set(sys.modules) & set({HEAVY}))
    with open(sys.argv[0], "w") as file:
        json.dump({{"heavy": found, "modules": len(sys.modules)}}, file)
modules, sys.argv = sys.argv[1], sys.argv[1:]
atexit.register(tell)
from lplan.cli import main
main()
"""


@pytest.fixture
def imported(tmp_path):
    """Runs a command in a new process; which heavy packages it had imported at its end."""

    def run(*words):
        report = tmp_path / "modules.json"
        environment = {**os.environ, "LPLAN_CACHE": str(tmp_path / "cache")}
        ended = subprocess.run(
            [sys.executable, "-c", WATCHED, report, *map(str, words)],
            env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        return ended, json.loads(report.read_text())["heavy"]

    return run


@pytest.mark.parametrize(
    "words", [(), ("--help",), ("--version",), ("fit-and-train", "--help"), ("models",), ("doctor",)]
)
def test_commands_that_answer_at_once(imported, words):
    ended, heavy = imported(*words)
    assert (ended.returncode, ended.stderr, heavy) == (0, "", [])


@pytest.mark.parametrize("words", [(), ("--json",)])
def test_a_cached_estimate(lplan, imported, traced, words):
    command = ("estimate", "--model", "tinyllama", "--ram", "8G", *words)
    here = lplan(*command)
    assert len(traced) == 1
    ended, heavy = imported(*command)
    assert (ended.returncode, ended.stderr, heavy) == (0, "", [])
    assert ended.stdout == here.out


def test_a_cached_plan(lplan, imported, traced, model, data):
    command = ("plan", "--model", model, "--data", data, "--ram", "2G")
    here = lplan(*command)
    ended, heavy = imported(*command)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert not {"torch", "transformers", "peft", "accelerate"} & set(heavy)
    assert ended.stdout == here.out


def test_a_refusal_is_as_light(imported):
    ended, heavy = imported("estimate", "--model", "tinylama", "--ram", "8G")
    assert (ended.returncode, ended.stdout, heavy) == (2, "", [])
    assert ended.stderr.splitlines()[0] == "error: no model is called 'tinylama'"


def test_the_modules_entry_point_is_the_command(tmp_path):
    ended = subprocess.run(
        [sys.executable, "-m", "lplan", "--bogus"], capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.splitlines() == [
        "error: No such option '--bogus'.",
        "hint: `lplan --help` shows what there is",
    ]


def test_a_reader_that_leaves_early_is_no_error(tmp_path):
    command = f"{sys.executable} -m lplan models | head -n 1"
    ended = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.startswith("alias")


def test_a_terminal_without_unicode(imported, monkeypatch):
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    ended, _ = imported("estimate", "--model", "tinyllama", "--ram", "8Ğ")
    assert (ended.returncode, len(ended.stderr.splitlines())) == (2, 2)
