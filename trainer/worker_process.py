"""The worker as a process: started behind a gate, let go once it is limited, asked to leave, ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from ..planner.events import Event, from_line
from ..profiles.secrets import redacted
from . import launch
from .channel import EVENTS_FD, RUN_STARTED
from .process_tree import ProcessTree

# A worker that is killed leaves all it printed, and one that crashes the Python lines where it did.
_FOR_THE_LOG = {"PYTHONUNBUFFERED": "1", "PYTHONFAULTHANDLER": "1"}


class WorkerProcess:
    """A child in a session of its own, so that a terminal's Ctrl-C reaches only the parent."""

    def __init__(self, process: subprocess.Popen[bytes], events_fd: int) -> None:
        self._process = process
        self._events_fd = events_fd
        self.pid = process.pid
        self.tree = ProcessTree(process.pid)

    @classmethod
    def start(
        cls, argv: Sequence[str], *, environment: Mapping[str, str], log: Path, started_s: float
    ) -> WorkerProcess:
        """Start `argv` behind the gate, output and errors going to `log`. Raises OSError.

        Call it in the thread that outlives the worker: the worker gets SIGTERM when that thread ends.
        """
        read_fd, write_fd = os.pipe()
        channel = {EVENTS_FD: str(write_fd), RUN_STARTED: repr(started_s)}
        gate = [sys.executable, "-I", "-S", launch.__file__, str(os.getpid())]
        try:
            with log.open("ab") as output:
                process = subprocess.Popen(
                    [*gate, *argv],
                    stdin=subprocess.PIPE,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    env={**os.environ, **_FOR_THE_LOG, **environment, **channel},
                    pass_fds=(write_fd,),
                    start_new_session=True,
                )
        except OSError:
            os.close(read_fd)
            raise
        finally:
            os.close(write_fd)
        return cls(process, read_fd)

    def let_go(self) -> None:
        """Open the gate: the worker's own program starts."""
        gate = self._process.stdin
        if gate is None:
            return
        # If it has ended already, its exit status says why.
        with suppress(BrokenPipeError):
            gate.write(launch.GO)
            gate.flush()

    def events(self) -> Iterator[Event]:
        """What the worker reports, as it does; ends when nobody holds the other end of the pipe any more."""
        with os.fdopen(self._events_fd, encoding="utf-8", errors="replace") as lines:
            for line in lines:
                event = from_line(line)
                if event is not None:
                    yield event

    def ask_to_leave(self) -> None:
        """It finishes its step and saves. Before it can, it just ends."""
        self._tell(signal.SIGTERM)

    def ask_to_free(self) -> None:
        """It frees its caches after its step."""
        self._tell(signal.SIGUSR1)

    def tell_to_go_on(self) -> None:
        """It was rehearsed, and trains now."""
        self._tell(signal.SIGUSR2)

    def ask_for_stacks(self) -> None:
        """It writes the stacks of all threads to its log, wherever it hangs."""
        self._tell(signal.SIGQUIT)

    def stopped(self) -> bool:
        """Whether somebody has stopped it (SIGSTOP, a debugger): it will go on when they want."""
        return self.tree.root_state() in ("T", "t")

    def _tell(self, number: signal.Signals) -> None:
        """A signal to the worker alone."""
        if not self.ended():
            os.kill(self.pid, number)

    def ended(self) -> bool:
        """Whether the worker is gone. Its number stays reserved until `end`: nobody else gets its signals."""
        if self._process.returncode is not None:
            return True
        if sys.platform != "linux":
            return self._process.poll() is not None
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def kill(self, others: Callable[[], Iterable[int]] = tuple) -> None:
        """End the worker, all that it started, and `others`."""
        self.tree.kill(others)

    def end(self, others: Callable[[], Iterable[int]] = tuple, timeout_s: float = 5.0) -> int | None:
        """End what is left of the run; the worker's exit status, negative for a signal.

        None if the worker does not die (it waits for a disk that does not answer).
        """
        self.kill(others)
        if self._process.stdin is not None:
            with suppress(BrokenPipeError):
                self._process.stdin.close()
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return None


def last_lines(log: Path, most_bytes: int = 65536, since: int = 0) -> tuple[str, ...]:
    """The end of a log, from byte `since` on, without access tokens; empty if it cannot be read."""
    try:
        with log.open("rb") as file:
            file.seek(max(since, file.seek(0, os.SEEK_END) - most_bytes))
            return tuple(redacted(file.read().decode(errors="replace")).splitlines())
    except OSError:
        return ()
