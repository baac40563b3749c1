"""A worker in place of the real one: does what its arguments say, one after the other, and starts fast.

Run as `python fake_worker.py VERB[=VALUE] ...`.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from lplan.trainer.channel import Channel

MIB = 2**20


class FakeWorker:
    def __init__(self) -> None:
        self.channel = Channel.from_environment()
        self.held: list[bytearray] = []
        self.steps = 0

    def phase(self, name: str) -> None:
        self.channel.phase(name)

    def end_phase(self, _: str) -> None:
        self.channel.phase_peak()

    def step(self, number: str) -> None:
        self.steps = int(number)
        self.channel.metric(step=self.steps, loss=1.5, learning_rate=1e-4, tokens=64, step_s=0.1)

    def hold(self, mib: str) -> None:
        """Touch and keep that much anonymous memory, in pieces."""
        self.held += [bytearray(b"x" * MIB) for _ in range(int(mib))]

    def hold_at_once(self, mib: str) -> None:
        self.held.append(bytearray(int(mib) * MIB))

    def spike(self, mib: str) -> None:
        """Touch that much and give it back at once: shorter than the time between two samples."""
        bytearray(int(mib) * MIB)

    def sleep(self, seconds: str) -> None:
        time.sleep(float(seconds))

    def say(self, text: str) -> None:
        print(text)

    def fail(self, text: str) -> None:
        raise ValueError(text)

    def tell(self, text: str) -> None:
        self.channel.failure(text, hint="turn it off and on", exit_code=2)

    def signal(self, name: str) -> None:
        os.kill(os.getpid(), getattr(signal, name))

    def exit(self, status: str) -> None:
        sys.exit(int(status))

    def ignore(self, name: str) -> None:
        signal.signal(getattr(signal, name), signal.SIG_IGN)

    def save_when_asked(self, path: str) -> None:
        """As the real worker: SIGTERM, then finish, save, leave with status 0."""

        def save(number: int, frame: object) -> None:
            time.sleep(0.2)
            Path(path).write_text("saved")
            sys.exit(0)

        signal.signal(signal.SIGTERM, save)

    def child(self, seconds: str) -> None:
        """A child in the worker's own session."""
        subprocess.Popen(["sleep", seconds])

    def stray(self, seconds: str) -> None:
        """A child that leaves the session, as a daemon does."""
        subprocess.Popen(["sleep", seconds], start_new_session=True)

    def fork(self, seconds: str) -> None:
        """A child that shares all memory so far."""
        if os.fork() == 0:
            time.sleep(float(seconds))
            os._exit(0)

    def write_pid(self, path: str) -> None:
        Path(path).write_text(str(os.getpid()))

    def rehearse(self, _: str) -> None:
        """As the real worker: rehearsed, it waits for its parent's word, to go on or to leave."""
        words: list[int] = []
        for number in (signal.SIGUSR2, signal.SIGTERM):
            signal.signal(number, lambda number, _: words.append(number))
        self.channel.phase("rehearsal")
        self.channel.phase_peak()
        while not words:
            time.sleep(0.01)
        if signal.SIGTERM in words:
            sys.exit(0)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def hang(self, _: str) -> None:
        """As a worker whose thread waits for what never comes."""
        faulthandler.register(signal.SIGQUIT)
        threading.Event().wait()

    def group(self, path: str) -> None:
        Path(path).write_text(Path("/proc/self/cgroup").read_text())


def main() -> None:
    worker = FakeWorker()
    for argument in sys.argv[1:]:
        verb, _, value = argument.partition("=")
        getattr(worker, verb)(value)


if __name__ == "__main__":
    main()
