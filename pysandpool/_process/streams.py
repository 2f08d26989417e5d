"""The standard streams of a process: descriptors for the process, and files for the caller."""

from __future__ import annotations

import io
import operator
import os
import stat
import subprocess
from typing import IO, Any, Protocol, Union

from pysandpool._execute.text import ENCODING

PIPE, STDOUT, DEVNULL = subprocess.PIPE, subprocess.STDOUT, subprocess.DEVNULL
_NAMES = ("stdin", "stdout", "stderr")
_ALLOWED = "PIPE, DEVNULL, None (as DEVNULL), or a file, pipe or socket with fileno()"


class HasFileno(Protocol):
    """Whatever has a descriptor."""

    def fileno(self) -> int: ...


Stream = Union[None, int, HasFileno]


class Streams:
    """The streams of one process that is about to be started.

    `fds` are the three descriptors of the process, -1 for the sandbox's own /dev/null; `own_pipes` has a bit for each
    of them that is a pipe made here. The caller closes the process's ends after the start, and all after a failure.
    """

    def __init__(self, stdin: Stream, stdout: Stream, stderr: Stream) -> None:
        self.fds = [-1, -1, -1]
        self.own_pipes = 0
        self.near: list[int] = [-1, -1, -1]
        try:
            for n, stream in enumerate((stdin, stdout, stderr)):
                self._open(n, stream)
        except BaseException:
            self.close()
            raise

    def _open(self, n: int, stream: Stream) -> None:
        if stream is None or _is(stream, DEVNULL):
            return
        if _is(stream, PIPE):
            ends = os.pipe()
            self.near[n], self.fds[n] = ends if n else (ends[1], ends[0])
            self.own_pipes |= 1 << n
        elif _is(stream, STDOUT) and n == len(_NAMES) - 1:
            self.fds[n] = self.fds[1]
        else:
            self.fds[n] = _descriptor_of(stream, _NAMES[n])

    def close_far(self) -> None:
        """Closes the process's ends of the pipes, so that only the process holds them."""
        for n in range(len(_NAMES)):
            if self.own_pipes & 1 << n:
                os.close(self.fds[n])
        self.own_pipes = 0

    def close(self) -> None:
        """Closes all descriptors that were made here."""
        self.close_far()
        for n, fd in enumerate(self.near):
            self.near[n] = -1
            if fd != -1:
                os.close(fd)

    def files(self, errors: str | None) -> list[IO[Any] | None]:
        """The caller's ends as files, which own the descriptors from now on; None where there is no pipe.

        `errors` is that of a text file; None: they are binary.
        """
        files: list[IO[Any] | None] = []
        for n, fd in enumerate(self.near):
            self.near[n] = -1
            files.append(None if fd == -1 else _opened(io.FileIO(fd, "r" if n else "w"), errors))
        return files


def _is(stream: Stream, constant: int) -> bool:
    return isinstance(stream, int) and not isinstance(stream, bool) and stream == constant


def _descriptor_of(stream: Any, name: str) -> int:
    """The descriptor of a caller's file, if it may be shown to a tenant.

    A directory would be a way out of the sandbox, and a terminal a way into the caller's session.
    """
    fd = stream.fileno() if hasattr(stream, "fileno") else stream
    try:
        fd = operator.index(fd)
    except TypeError:
        raise TypeError(f"{name} = {stream!r} is not allowed: {_ALLOWED}") from None
    if isinstance(stream, bool) or fd < 0:
        raise ValueError(f"{name} = {stream!r} is not allowed: {_ALLOWED}")
    found = os.fstat(fd)
    if stat.S_ISCHR(found.st_mode) and found.st_rdev == os.stat(os.devnull).st_rdev:
        return -1
    if not (stat.S_ISREG(found.st_mode) or stat.S_ISFIFO(found.st_mode) or stat.S_ISSOCK(found.st_mode)):
        hint = ": use pty=True, or PIPE and copy" if os.isatty(fd) else ""
        raise ValueError(f"{name} = {stream!r} is not allowed: it is no file, pipe or socket{hint}")
    return fd


def _opened(raw: io.FileIO, errors: str | None, line_buffering: bool = False) -> IO[Any]:
    binary = io.BufferedWriter(raw) if raw.writable() else io.BufferedReader(raw)
    return binary if errors is None else io.TextIOWrapper(binary, ENCODING, errors, line_buffering=line_buffering)


class _Screen(io.FileIO):
    """The reading side of a terminal's master. The kernel reports EIO once no process has the terminal open."""

    def readinto(self, buffer: Any) -> int | None:
        try:
            return super().readinto(buffer)
        except OSError:
            return 0

    def readall(self) -> bytes:
        return b"".join(iter(lambda: self.read(io.DEFAULT_BUFFER_SIZE) or b"", b""))

    def read(self, size: int | None = -1, /) -> Any:
        if size is None or size < 0:
            return self.readall()
        found = bytearray(size)
        count = self.readinto(found)
        return None if count is None else bytes(found[:count])


def terminal_files(master: int, errors: str | None) -> tuple[IO[Any], IO[Any]]:
    """The two sides of a terminal's master, to write to and to read from. They own the descriptor from now on."""
    keyboard = io.FileIO(os.dup(master), "w")
    return _opened(keyboard, errors, line_buffering=True), _opened(_Screen(master, "r"), errors)


def ended_terminal() -> int:
    """The master of a terminal that nobody has open, for a process that was killed before it had a terminal."""
    master, end = os.openpty()
    os.close(end)
    return master
