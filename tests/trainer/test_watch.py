"""Watching from outside."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from lplan.planner.events import Note, Outcome, Sample, to_line
from lplan.profiles.errors import UsageError
from lplan.trainer.run_folder import RunFolder
from lplan.trainer.watch import follow, watch_process

END = Outcome(
    t_s=2.0, verdict="done", explanation="x", hint=None, exit_code=0, phase="save", step=1
)  # fmt: skip


def test_a_growing_record_is_followed_to_its_end(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    line = to_line(Note(t_s=1.0, text="torn"))
    folder.events.write_text(to_line(Note(t_s=0.0, text="first")) + line[:9], encoding="utf-8")
    seen = []

    def write_on() -> None:
        with folder.events.open("a", encoding="utf-8") as file:
            file.write(line[9:] + to_line(END))

    writer = threading.Timer(0.3, write_on)
    with folder.lock():
        writer.start()
        seen = list(follow(folder, poll_s=0.02))
    assert [type(event) for event in seen] == [Note, Note, Outcome]


def test_a_record_that_nobody_writes_ends_where_it_is(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.events.write_text(to_line(Note(t_s=0.0, text="first")), encoding="utf-8")
    assert len(list(follow(folder))) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_process_is_watched_until_it_ends() -> None:
    code = "import time; held = b'x' * (96 << 20); time.sleep(1.5)"
    samples: list[Sample] = []
    with subprocess.Popen([sys.executable, "-c", code]) as process:
        threading.Thread(target=process.wait, daemon=True).start()  # a zombie has no memory
        watch_process(process.pid, samples.append)
    assert max(sample.anonymous_bytes for sample in samples) >= 96 << 20
    assert len(samples) >= 5


def test_no_such_process_is_refused() -> None:
    with pytest.raises(UsageError, match="no process"):
        watch_process(2**30, lambda _: None)
