import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from lplan.planner.events import Evaluation, Event, Metric, Note, Outcome, Phase, PhasePeak, from_line
from lplan.trainer.channel import EVENTS_FD, RUN_STARTED, Channel
from lplan.trainer.process_tree import reset_high_water

MIB = 2**20

ORPHAN = """
import signal, sys, time
from lplan.trainer import channel
channel.ORPHAN_GRACE_S = 1
if sys.argv[1] == "deaf":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
reports = channel.Channel.from_environment()
while True:
    reports.note("still here")
    time.sleep(0.05)
"""


class Parent:
    """The other end of a channel in this process."""

    def __init__(self) -> None:
        self._read_fd, self._write_fd = os.pipe()
        self.environment = {EVENTS_FD: str(self._write_fd), RUN_STARTED: repr(time.monotonic() - 10)}

    def events(self) -> list[Event | None]:
        """Everything sent; ends the channel."""
        os.close(self._write_fd)
        with os.fdopen(self._read_fd) as lines:
            return [from_line(line) for line in lines]


@pytest.fixture
def parent() -> Iterator[Parent]:
    return Parent()


def test_every_report_arrives_as_its_event(parent: Parent) -> None:
    channel = Channel.from_environment(parent.environment)
    channel.metric(step=3, loss=0.5, learning_rate=2e-4, tokens=900, step_s=1.5)
    channel.evaluation(step=3, loss=0.75, samples=20)
    channel.note("größer")
    channel.failure("no such layer", hint="name another", exit_code=2)
    metric, evaluation, note, outcome = parent.events()
    assert isinstance(metric, Metric)
    assert (metric.step, metric.loss, metric.learning_rate, metric.tokens, metric.step_s) == (
        3,
        0.5,
        2e-4,
        900,
        1.5,
    )
    assert isinstance(evaluation, Evaluation)
    assert (evaluation.step, evaluation.loss, evaluation.samples) == (3, 0.75, 20)
    assert isinstance(note, Note)
    assert note.text == "größer"
    assert isinstance(outcome, Outcome)
    assert (outcome.explanation, outcome.hint, outcome.exit_code) == ("no such layer", "name another", 2)


def test_times_count_from_the_start_of_the_run(parent: Parent) -> None:
    Channel.from_environment(parent.environment).note("now")
    (note,) = parent.events()
    assert note is not None
    assert 10 <= note.t_s < 15


def test_phases_end_with_their_own_peaks(parent: Parent) -> None:
    if not reset_high_water():
        pytest.skip("this process may not reset its high-water mark")
    channel = Channel.from_environment(parent.environment)
    channel.phase("load")
    bytearray(64 * MIB)  # gone before anyone could sample it
    channel.phase("wrap")
    channel.phase_peak()
    load, load_peak, wrap, wrap_peak = parent.events()
    assert isinstance(load, Phase)
    assert isinstance(load_peak, PhasePeak)
    assert isinstance(wrap, Phase)
    assert isinstance(wrap_peak, PhasePeak)
    assert (load.name, load_peak.name, wrap.name, wrap_peak.name) == ("load", "load", "wrap", "wrap")
    assert 62 * MIB < load_peak.rss_bytes - wrap_peak.rss_bytes < 68 * MIB
    assert load_peak.rss_bytes == load_peak.anonymous_bytes + load_peak.file_bytes


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_stays_json(parent: Parent, loss: float) -> None:
    channel = Channel.from_environment(parent.environment)
    channel.metric(step=1, loss=loss, learning_rate=None, tokens=1, step_s=1.0)
    channel.evaluation(step=1, loss=loss, samples=1)
    metric, note = parent.events()
    assert isinstance(metric, Metric)
    assert metric.loss is None
    assert isinstance(note, Note)
    assert str(loss) in note.text


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {EVENTS_FD: "987", RUN_STARTED: "0.0"},  # a number that is no open file here
        {EVENTS_FD: "pipe", RUN_STARTED: "0.0"},
        {EVENTS_FD: "1"},
    ],
)
def test_a_worker_alone_reports_to_nobody(environment: dict[str, str]) -> None:
    channel = Channel.from_environment(environment)
    channel.phase("load")
    channel.metric(step=1, loss=1.0, learning_rate=None, tokens=1, step_s=1.0)
    channel.note("nobody hears")
    channel.phase_peak()


def test_children_of_the_worker_do_not_get_the_channel(parent: Parent) -> None:
    Channel.from_environment(parent.environment)
    assert not os.get_inheritable(int(parent.environment[EVENTS_FD]))


@pytest.mark.parametrize(("hearing", "end"), [("hears", signal.SIGTERM), ("deaf", signal.SIGALRM)])
def test_a_worker_without_parent_leaves(hearing: str, end: signal.Signals) -> None:
    read_fd, write_fd = os.pipe()
    environment = {**os.environ, EVENTS_FD: str(write_fd), RUN_STARTED: "0.0"}
    worker = subprocess.Popen([sys.executable, "-c", ORPHAN, hearing], env=environment, pass_fds=(write_fd,))
    os.close(write_fd)
    assert b"still here" in os.read(read_fd, 4096)
    os.close(read_fd)
    assert worker.wait(10) == -end


def test_the_supervisor_is_small() -> None:
    code = (
        "import json, sys\n"
        "import lplan.trainer.supervise\n"
        "from lplan.trainer.process_tree import usage_of\n"
        "heavy = {'torch', 'transformers', 'peft', 'numpy', 'psutil', 'rich'} & set(sys.modules)\n"
        "print(json.dumps([sorted(heavy), usage_of('self').high_water_bytes]))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy, peak_bytes = json.loads(result.stdout)
    assert heavy == []
    assert peak_bytes < 40 * MIB
