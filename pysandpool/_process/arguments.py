"""What `communicate()` and `wait()` are called with, for threads and for event loops."""

from __future__ import annotations

import fcntl
import math
import operator
import os
import struct
import subprocess
import termios
import time
from datetime import timedelta
from typing import TYPE_CHECKING

from pysandpool._execute.encode import Words
from pysandpool._execute.text import Coding

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from pysandpool._config.fields import Duration

_USUAL_SIZE = (24, 80)
_LARGEST = 0xFFFF


def deadline_of(timeout: Duration | None) -> float:
    """The time of `time.monotonic()` at which the timeout has passed from now on; infinite for None."""
    return math.inf if timeout is None else time.monotonic() + _seconds(timeout)


def expired(args: Words, timeout: Duration | None, out: bytes | None = None, err: bytes | None = None) -> Exception:
    """The exception for a timeout that has passed, with what was read meanwhile."""
    return subprocess.TimeoutExpired([os.fsdecode(word) for word in args], _seconds(timeout or 0), out, err)


def _seconds(timeout: Duration) -> float:
    return timeout.total_seconds() if isinstance(timeout, timedelta) else float(timeout)


def checked_size(rows: int, cols: int) -> tuple[int, int]:
    """The size of a terminal. Raises ValueError if a number is not in 1 ... 65535, and TypeError if it is no int."""
    for name, number in (("rows", rows), ("cols", cols)):
        if not 1 <= operator.index(number) <= _LARGEST:
            raise ValueError(f"{name} = {number!r} is not allowed; expected: an int, 1 ... {_LARGEST}")
    return operator.index(rows), operator.index(cols)


def size_of(size: tuple[int, int] | None, *, terminal: bool) -> tuple[int, int]:
    """Rows and columns of the terminal that a process is started with, if it is started with one.

    The tuple of `os.get_terminal_size()` has the columns first, and is recognised.
    """
    if size is None:
        return _USUAL_SIZE if terminal else (0, 0)
    if not terminal:
        raise ValueError(f"size = {size!r} is not allowed without pty=True: only a terminal has a size")
    try:
        rows, cols = (size.lines, size.columns) if isinstance(size, os.terminal_size) else size
    except (TypeError, ValueError):
        raise TypeError(
            f"size = {size!r} is not allowed; expected: (rows, cols), or what os.get_terminal_size() returns"
        ) from None
    return checked_size(rows, cols)


def resize_terminal(fd: int, rows: int, cols: int) -> None:
    """Sets the size of a terminal, whose foreground processes get SIGWINCH."""
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", *checked_size(rows, cols), 0, 0))


def encoded_input(data: Buffer | str | None, *, has_stdin: bool, coding: Coding | None) -> bytes:
    """The bytes for standard input.

    Raises ValueError if there is no pipe to write them to, and TypeError if `data` is text for binary streams, or the
    other way round.
    """
    if data and not has_stdin:
        raise ValueError("input is given, but stdin is no pipe: start the process with stdin=PIPE")
    if data is not None and isinstance(data, str) != (coding is not None):
        wanted = "bytes-like" if coding is None else "str"
        raise TypeError(f"input must be {wanted}, not {type(data).__name__}")
    return coding.encode(data) if coding is not None and isinstance(data, str) else bytes(data or b"")  # type: ignore[arg-type]
