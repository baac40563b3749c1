"""Reporting to a tracker, with a stand-in for tensorboardX that writes down what it is told."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
from real_worker import STEPS, fill, work

from lplan.profiles.errors import LplanError
from lplan.trainer.trackers import require_trackers

WRITER = """
import json, pathlib
class SummaryWriter:
    def __init__(self, log_dir):
        self.path = pathlib.Path(log_dir)
        self.path.mkdir(parents=True, exist_ok=True)
    def add_text(self, *said): pass
    def add_scalar(self, name, value, step):
        with (self.path / "scalars.jsonl").open("a") as file:
            file.write(json.dumps([name, value, step]) + chr(10))
    def flush(self): pass
    def close(self): pass
"""


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_metrics_and_memory_reach_the_tracker(tmp_path: Path) -> None:
    (tmp_path / "packages").mkdir()
    (tmp_path / "packages/tensorboardX.py").write_text(WRITER, encoding="utf-8")
    # A real tensorboard would be preferred, and a stand-in without a SummaryWriter of torch's is not.
    (tmp_path / "packages/tensorboard.py").write_text("raise ImportError", encoding="utf-8")
    folder = fill(tmp_path / "run", report_to=("tensorboard",))
    path = [str(tmp_path / "packages"), os.environ.get("PYTHONPATH", "")]
    done = work(folder, {"PYTHONPATH": os.pathsep.join(filter(None, path))})
    assert done.returncode == 0, done.stderr
    lines = (folder / "tensorboard/scalars.jsonl").read_text(encoding="utf-8").splitlines()
    told = [json.loads(line) for line in lines]
    assert [step for name, _, step in told if name == "train/loss"] == list(range(1, STEPS + 1))
    held = {step: value for name, value, step in told if name == "train/memory_rss_gib"}
    assert set(range(1, STEPS + 1)) <= set(held)
    assert all(0.1 < value < 4 for value in held.values())


def test_a_tracker_that_is_not_installed_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lplan.trainer.trackers.find_spec", lambda name: None)
    with pytest.raises(LplanError, match="needs the package trackio") as refusal:
        require_trackers(["trackio"])
    assert refusal.value.hint is not None
    assert "pip install trackio" in refusal.value.hint
