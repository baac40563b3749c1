"""Ctrl-C and its relatives as a call, so that no code in between is torn apart by an exception."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_PATIENCE = 3


class Interrupts:
    """Inside, SIGINT, SIGTERM and SIGHUP call `notify`; the `patience`th raises KeyboardInterrupt as well.

    Signals that were ignored (nohup) stay ignored. Outside the main thread, where Python sets no handlers,
    nothing changes.
    """

    def __init__(self, notify: Callable[[], object], patience: int = _PATIENCE) -> None:
        self._notify = notify
        self._patience = patience
        self._count = 0
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                if signal.getsignal(number) not in (signal.SIG_IGN, None):
                    self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *exception: object) -> None:
        for number, previous in self._previous.items():
            signal.signal(number, previous)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self._count += 1
        self._notify()
        if self._count >= self._patience:
            raise KeyboardInterrupt
