"""Tracing processes as their parent sees them.

Each is a child, so that the caller never imports torch, a model's code cannot harm it, and its memory right after
its imports is the import baseline of a real run.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from contextvars import ContextVar
from dataclasses import asdict, replace
from typing import IO, Any

from ..profiles.cpu import this_cpu
from ..profiles.errors import EXIT_USAGE, LplanError, UsageError
from ..profiles.machine import memory_limits
from ..profiles.model import ModelProfile
from .allocator import environment_of
from .footprint import Footprint, footprint_from_dict
from .polynomial import Shape
from .recipe import Recipe
from .store import FootprintStore

BASELINE = "baseline"
"""The store's name for the import baseline."""
_MOST = 2
_PROCESS_BYTES = 2**30
"""Room for one of them: its libraries take 400 MiB, the events of a large stack as much again."""


def at_once() -> int:
    """How many processes this machine traces with side by side: as many as have a core and room, and at least one."""
    room = min(limit.limit_bytes for limit in memory_limits())
    return max(1, min(_MOST, this_cpu().cores, room // _PROCESS_BYTES))


def single(recipe: Recipe) -> Recipe:
    """The recipe with one micro batch a step."""
    return replace(recipe, accumulation=1)


def several(recipe: Recipe) -> Recipe:
    """The recipe with several micro batches a step: its trace shows a single one as well."""
    return replace(recipe, accumulation=max(2, recipe.accumulation))


class TracingProcess:
    """Answers one request after another, until it is closed.

    What a trace says of a single micro batch a step goes into the store beside it.
    """

    def __init__(self) -> None:
        environment = {
            **os.environ,
            **environment_of("pinned", threads=1),
            "CUDA_VISIBLE_DEVICES": "",
            "HF_HUB_OFFLINE": "1",
        }
        self._errors: IO[str] = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115 until `close`
        self._child = subprocess.Popen(
            [sys.executable, "-m", "lplan.planner.tracing"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, env=environment, text=True,
        )  # fmt: skip
        self._busy = True
        """Importing, or tracing."""

    def close(self) -> None:
        """End it, whatever it does."""
        if self._busy:
            self._child.kill()
        with suppress(BrokenPipeError), self._child:
            pass
        self._errors.close()

    def ask(self, model: ModelProfile, recipe: Recipe, shape: Shape) -> None:
        """Begin a trace."""
        self._busy = True
        self._asked = model, recipe
        message = {
            "config": dict(model.config),
            "trust_remote_code": model.trust_remote_code,
            "recipe": recipe.graph().to_dict(),
            "shape": asdict(shape),
        }
        assert self._child.stdin is not None
        with suppress(BrokenPipeError):
            self._child.stdin.write(json.dumps(message, default=str) + "\n")
            self._child.stdin.flush()

    def answer(self, store: FootprintStore) -> Footprint | LplanError:
        """What was asked for, once it is there. Raises LplanError when the process fails."""
        model, recipe = self._asked
        answer = self._next_answer(store)
        if answer is None:
            raise LplanError(
                f"tracing {model.id} failed: {self._ending()}", hint="run again with --debug to see where"
            )
        self._busy = False
        if "single" in answer:
            store.keep(model.config, single(recipe), footprint_from_dict(answer["single"]))
        return _answer(answer)

    def _next_answer(self, store: FootprintStore) -> dict[str, Any] | None:
        """The next footprint or refusal; the import baseline on the way is kept. None where the process ended."""
        assert self._child.stdout is not None
        for line in self._child.stdout:
            if not line.endswith("\n"):
                break
            answer: dict[str, Any] = json.loads(line)
            if "baseline" not in answer:
                return answer
            store.keep_fact(BASELINE, answer["baseline"])
        return None

    def _ending(self) -> str:
        assert self._child.stdin is not None
        with suppress(BrokenPipeError):
            self._child.stdin.close()
        status = self._child.wait()
        if status < 0:
            return f"its process was ended by {signal.Signals(-status).name}"
        self._errors.seek(0)
        lines = self._errors.read().strip().splitlines()
        return lines[-1] if lines else f"its process ended with status {status}"


def _answer(data: Mapping[str, Any]) -> Footprint | LplanError:
    if "error" in data:
        kind = UsageError if data["exit_code"] == EXIT_USAGE else LplanError
        return kind(data["error"], hint=data["hint"])
    return footprint_from_dict(data["footprint"])


class Processes:
    """Processes that are started as they are needed."""

    def __init__(self) -> None:
        self._idle: list[TracingProcess] = []

    def take(self) -> TracingProcess:
        """One that does nothing."""
        return self._idle.pop() if self._idle else TracingProcess()

    def prepare(self, count: int) -> None:
        """Have so many that do nothing: who needs one later need not wait for its imports."""
        while len(self._idle) < count:
            self._idle.append(TracingProcess())

    def give_back(self, process: TracingProcess) -> None:
        """For the next who needs one."""
        self._idle.append(process)

    def close(self) -> None:
        """End those that were given back."""
        while self._idle:
            self._idle.pop().close()


_SHARED: ContextVar[Processes | None] = ContextVar("processes of several models", default=None)


@contextmanager
def processes() -> Iterator[Processes]:
    """Those of the caller, or of all callers within a context of `shared_processes`."""
    shared = _SHARED.get()
    if shared is not None:
        yield shared
        return
    with closing(Processes()) as own:
        yield own


@contextmanager
def shared_processes() -> Iterator[None]:
    """A context in which one model after another is traced by the same processes, which import only once."""
    with closing(Processes()) as shared:
        token = _SHARED.set(shared)
        try:
            yield
        finally:
            _SHARED.reset(token)
