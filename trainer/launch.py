"""The first thing a worker's process runs: wait until the parent has limited it, then become the worker.

Started by its path with `python -I -S`: it takes 20 ms, imports nothing of lplan, and its memory is gone
once it has become the worker. The limit thus holds before the worker's first instruction, and no code runs
between fork and exec in a parent that has threads.

On Linux the worker gets SIGTERM when the thread that launched it dies, however that happens
(PR_SET_PDEATHSIG, prctl(2); it outlives exec): a worker that handles SIGTERM still finishes its step and
saves, any other ends.
"""

from __future__ import annotations

import os
import signal
import sys

GO = b"\n"
NOT_STARTED = 127
"""Exit status of a worker that could not be started, as in shells."""

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main(parent: int, command: list[str]) -> int:
    """Become `command` once the parent has written GO to standard input; returns only if that fails."""
    _leave_with(parent)
    if os.read(0, len(GO)) != GO:
        return NOT_STARTED
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    try:
        os.execvp(command[0], command)  # noqa: S606 - an argument list, as the user's own shell would run it
    except OSError as error:
        sys.stderr.write(f"cannot start {command[0]}: {error.strerror}\n")
    return NOT_STARTED


def _leave_with(parent: int) -> None:
    # A parent started by `nohup` or `&` hands down ignored signals; the worker must hear them.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    # The parent's requests (WorkerProcess): nothing to a worker that does not listen, or not yet.
    for number in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent:
        sys.exit(NOT_STARTED)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2:]))
