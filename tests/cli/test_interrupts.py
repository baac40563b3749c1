"""Ctrl-C: one line, status 1, nothing left behind, no traceback."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

SLOW = """
import pathlib, sys, time
import made_up
from lplan.planner import rates, tracer
from lplan.cli import main

def slow(*_, **__):
    pathlib.Path(sys.argv[0]).write_text("tracing")
    time.sleep(60)
    yield

tracer._trace, rates._measure = slow, lambda *how: made_up.RATES[how[-1]]
sys.argv = sys.argv[1:]
main()
"""


@pytest.mark.parametrize("command", ["estimate", "plan", "fit-and-train"])
def test_an_interrupt_while_planning(lplan, model, data, monkeypatch, command):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("lplan.planner.tracer._trace", interrupt)
    words = (command, "--model", model, "--ram", "2G", *(() if command == "estimate" else ("--data", data)))
    message, hint = lplan(*words).refused(1)
    assert message == "interrupted"
    assert hint


def test_a_real_signal(model, data, tmp_path):
    started, folder = tmp_path / "started", tmp_path / "run"
    tests = str(Path(__file__).parents[1])
    process = subprocess.Popen(
        [
            sys.executable, "-c", SLOW, started, "fit-and-train", "--model", model, "--data", data,
            "--ram", "2G", "--output", folder,
        ],
        env={**os.environ, "PYTHONPATH": tests}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    with process:
        deadline_s = time.monotonic() + 30
        while not started.exists() and process.poll() is None and time.monotonic() < deadline_s:
            time.sleep(0.02)
        assert folder.exists()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=10)
    assert (process.returncode, out) == (1, "")
    assert err.splitlines()[0] == "error: interrupted"
    assert len(err.splitlines()) == 2
    assert not folder.exists()
