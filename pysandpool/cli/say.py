"""Messages of the command line on standard error, and its exit codes."""

from __future__ import annotations

import contextlib
import os

from pysandpool._errors import SandboxError

# As timeout(1), env(1) and docker-run(1) have them.
EXIT_TIMEOUT = 124
EXIT_SETUP = 125
EXIT_NOT_EXECUTABLE = 126
EXIT_NOT_FOUND = 127
EXIT_SIGNAL = 128


def say(text: str) -> None:
    """Writes a line to standard error. If nobody can read it, that is no reason to fail."""
    with contextlib.suppress(OSError):
        os.write(2, f"{text}\n".encode(errors="replace"))


def complain(error: Exception, code: int) -> int:
    """Reports the error, and how to fix it, and returns the exit code."""
    message, hint = explain(error)
    say(f"pysandpool: {message}")
    if hint:
        say(f"hint: {hint}")
    return code


def explain(error: Exception) -> tuple[str, str]:
    """The message of the error and its hint, which may be ""."""
    hint = error.hint if isinstance(error, SandboxError) else ""
    return (str(error).replace(f"; hint: {hint}", "") if hint else str(error)), hint
