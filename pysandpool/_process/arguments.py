"""What `communicate()` and `wait()` are called with, for threads and for event loops."""

from __future__ import annotations

import math
import os
import time
from typing import TYPE_CHECKING

from pysandpool._execute.encode import Words
from pysandpool._execute.text import ENCODING

if TYPE_CHECKING:
    from typing_extensions import Buffer


def deadline_of(timeout: float | None) -> float:
    """The time of `time.monotonic()` at which `timeout` seconds from now have passed; infinite for None."""
    return math.inf if timeout is None else time.monotonic() + timeout


def words_of(args: Words) -> list[str]:
    """The command as `subprocess.TimeoutExpired` shows it."""
    return [os.fsdecode(word) for word in args]


def encoded_input(data: Buffer | str | None, *, has_stdin: bool, is_text: bool) -> bytes:
    """The bytes for standard input.

    Raises ValueError if there is no pipe to write them to, and TypeError if `data` is text for binary streams, or the
    other way round.
    """
    if data and not has_stdin:
        raise ValueError("input is given, but stdin is no pipe: start the process with stdin=PIPE")
    if data is not None and isinstance(data, str) != is_text:
        wanted = "str" if is_text else "bytes-like"
        raise TypeError(f"input must be {wanted}, not {type(data).__name__}")
    return data.encode(ENCODING) if isinstance(data, str) else bytes(data or b"")
