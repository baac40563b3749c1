"""The end of a worker's log: the line, exception or stack that says why it ended."""

from __future__ import annotations

import re

_STACK = re.compile(r"^(?:Current thread|Thread) 0x")
_FRAME = re.compile(r'^\s+File "(?P<file>[^"]+)", line (?P<line>\d+) in (?P<function>.+)$')
_LAST_WORDS = 200


def exception_line(lines: tuple[str, ...]) -> str | None:
    """The exception of the last traceback ("ValueError: no such layer"), else the last line with text."""
    starts = [i for i, line in enumerate(lines) if line.startswith("Traceback (most recent call last)")]
    after = lines[starts[-1] + 1 :] if starts else ()
    return next((line for line in after if line and not line[0].isspace()), None) or last_line(lines)


def waiting_at(lines: tuple[str, ...]) -> str | None:
    """The innermost frame of the last stack that faulthandler wrote, the main thread's: "wait (threading.py:334)"."""
    starts = [i for i, line in enumerate(lines) if _STACK.match(line)]
    frame = _FRAME.match(lines[starts[-1] + 1]) if starts and starts[-1] + 1 < len(lines) else None
    return f"{frame['function']} ({frame['file'].rpartition('/')[2]}:{frame['line']})" if frame else None


def last_match(pattern: re.Pattern[str], lines: tuple[str, ...]) -> str | None:
    """The last line, among the last 200, that starts at the margin and matches."""
    # Exceptions and libraries' last words start at the margin; quoted source lines don't.
    words = (line for line in reversed(lines[-_LAST_WORDS:]) if line and not line[0].isspace())
    return next((line.strip() for line in words if pattern.search(line)), None)


def last_line(lines: tuple[str, ...]) -> str | None:
    """The last line with text."""
    return next((line.strip() for line in reversed(lines) if line.strip()), None)


def shortened(line: str, most: int = 200) -> str:
    """A line for a sentence."""
    return line if len(line) <= most else line[: most - 1] + "…"
