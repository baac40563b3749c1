"""The one root of everything lplan tells a user that went wrong."""

from __future__ import annotations

EXIT_OK = 0
EXIT_ERROR = 1
EXIT_USAGE = 2
EXIT_DOES_NOT_FIT = 3


class LplanError(Exception):
    """An error for the user: one line, a hint, an exit status. Caught only in the CLI."""

    exit_code = EXIT_ERROR

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


class UsageError(LplanError):
    """The request itself is wrong: a value, a name or a combination that cannot be."""

    exit_code = EXIT_USAGE


class DoesNotFitError(LplanError):
    """No plan, or not this plan, fits the budget."""

    exit_code = EXIT_DOES_NOT_FIT


def first_line(error: Exception) -> str:
    """An exception as one line for the user."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else 'no message'}"
