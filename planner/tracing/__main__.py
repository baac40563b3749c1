"""The tracing process: reads a request a line; writes the import baseline, and then an answer a line."""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from ...profiles.errors import LplanError
from ..polynomial import Shape
from ..recipe import Recipe


def main() -> None:
    """Answer every request."""
    warnings.filterwarnings("ignore")
    answers = sys.stdout
    sys.stdout = sys.stderr
    _import_stack()
    _say(answers, {"baseline": _resident()})
    for answer in _answers(map(json.loads, sys.stdin)):
        _say(answers, answer)


def _answers(requests: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    from .trace import Traced, trace_both

    model: dict[str, Any] = {}
    found: list[tuple[dict[str, Any], Traced]] = []
    for request in requests:
        asked = {name: request[name] for name in ("config", "trust_remote_code")}
        if asked != model:
            model, found = asked, []
        knobs, shape = request["recipe"], Shape(**request["shape"])
        known = next((t for same, t in found if same == knobs and t.footprint.holds(shape)), None)
        try:
            traced = known or trace_both(
                model["config"], Recipe.from_dict(knobs), shape, trust_remote_code=model["trust_remote_code"]
            )
        except LplanError as error:
            yield {"error": str(error), "hint": error.hint, "exit_code": error.exit_code}
        else:
            found.append((knobs, traced))
            single = {} if traced.single is None else {"single": traced.single.to_dict()}
            yield {"footprint": traced.footprint.to_dict(), **single}


def _import_stack() -> None:
    import transformers
    from peft import LoraConfig, get_peft_model  # noqa: F401
    from transformers import AutoModelForCausalLM, Trainer  # noqa: F401

    transformers.logging.set_verbosity_error()


def _resident() -> dict[str, int]:
    status = Path("/proc/self/status")
    if not status.exists():
        import psutil

        return {"anonymous_bytes": psutil.Process().memory_info().rss, "file_bytes": 0}
    fields: dict[str, Any] = dict(
        line.split(":", 1) for line in status.read_text().splitlines() if ":" in line
    )
    return {
        "anonymous_bytes": int(fields["RssAnon"].split()[0]) * 1024,
        "file_bytes": (int(fields["RssFile"].split()[0]) + int(fields["RssShmem"].split()[0])) * 1024,
    }


def _say(stream: Any, answer: dict[str, Any]) -> None:
    stream.write(json.dumps(answer) + "\n")
    stream.flush()


if __name__ == "__main__":
    main()
