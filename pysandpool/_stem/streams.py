"""The standard streams of the code: what the process has as descriptors 0, 1 and 2."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Iterator

KEPT_CHARACTERS = 64 * 1024


def open_streams() -> None:
    """New files for the three descriptors, as Python makes them. The outputs write through: a process that is killed
    has lost nothing of what it printed."""
    open_input()
    out = io.TextIOWrapper(io.FileIO(1, "w", closefd=False), "utf-8", "surrogateescape", write_through=True)
    err = io.TextIOWrapper(io.FileIO(2, "w", closefd=False), "utf-8", "backslashreplace", write_through=True)
    out.mode = err.mode = "w"  # type: ignore[misc]  # as the interpreter itself sets it
    sys.stdout = sys.__stdout__ = out  # type: ignore[misc]
    sys.stderr = sys.__stderr__ = err  # type: ignore[misc]


def open_input() -> None:
    """A new file for standard input, which has read nothing yet."""
    raw = io.BufferedReader(io.FileIO(0, "r", closefd=False))
    file = io.TextIOWrapper(raw, "utf-8", "surrogateescape")
    file.mode = "r"  # type: ignore[misc]  # as the interpreter itself sets it
    sys.stdin = sys.__stdin__ = file  # type: ignore[misc]


def replace_input(fd: int) -> None:
    """Descriptor 0 is another file from now on; -1: /dev/null."""
    opened = os.open(os.devnull, os.O_RDONLY) if fd == -1 else fd
    if opened != 0:  # it is, where the code has closed the descriptor
        os.dup2(opened, 0)
        os.close(opened)
    os.set_inheritable(0, True)
    open_input()


def flush_streams() -> None:
    """Writes what is buffered. Code may have closed or replaced the files, and nobody may read them any more."""
    for file in (sys.stdout, sys.stderr):
        try:
            file.flush()
        except Exception:  # noqa: BLE001 - an object of the tenant's
            continue


class Tail:
    """The last characters that were printed."""

    def __init__(self) -> None:
        self.text = ""
        self.is_open = True

    def add(self, text: str) -> None:
        """Appends the text."""
        self.text = (self.text + text)[-KEPT_CHARACTERS:]


class _Captured(io.TextIOBase):
    """Stands for the standard stream of this name. What holds it for longer than the capture, such as a handler of the
    logging module, writes to the stream itself then."""

    def __init__(self, name: str, fd: int, tail: Tail) -> None:
        self._name = name
        self._fd = fd
        self._tail = tail

    def writable(self) -> bool:
        """As a file that can be written to."""
        return True

    def fileno(self) -> int:
        """The descriptor of the stream."""
        return self._fd

    def write(self, text: str) -> int:
        """To the tail, or to the stream."""
        if not self._tail.is_open:
            return int(getattr(sys, self._name).write(text))
        self._tail.add(text)
        return len(text)

    def flush(self) -> None:
        """What is written to the stream has been flushed."""


@contextlib.contextmanager
def captured() -> Iterator[Tail]:
    """What is printed goes to the tail that this yields."""
    before = sys.stdout, sys.stderr
    tail = Tail()
    sys.stdout, sys.stderr = _Captured("__stdout__", 1, tail), _Captured("__stderr__", 2, tail)
    try:
        yield tail
    finally:
        tail.is_open = False
        sys.stdout, sys.stderr = before
