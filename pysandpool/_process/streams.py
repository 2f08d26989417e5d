"""The standard streams of a process: descriptors for the process, and files for the caller."""

from __future__ import annotations

import errno
import io
import operator
import os
import select
import stat
import subprocess
from typing import IO, Any, NamedTuple, Protocol, Union

from pysandpool._execute.text import Coding, coding_of

PIPE, STDOUT, DEVNULL = subprocess.PIPE, subprocess.STDOUT, subprocess.DEVNULL
_NAMES = ("stdin", "stdout", "stderr")
_ALLOWED = "PIPE, DEVNULL, None (as DEVNULL), or a file, pipe or socket with fileno()"


class HasFileno(Protocol):
    """Whatever has a descriptor."""

    def fileno(self) -> int: ...


Stream = Union[None, int, HasFileno]


class FileKind(NamedTuple):
    """How the caller's ends of the streams are opened as files."""

    coding: Coding | None
    """That of text files; None: the files are binary"""
    bufsize: int
    """As of `open`: -1 for the usual size, 0 for no buffer, 1 for one that is flushed at the end of each line"""


def kind_of(text: bool, encoding: str | None, errors: str | None, bufsize: int) -> FileKind:
    """What these arguments of `popen` ask for. Raises TypeError or LookupError for a wrong one."""
    try:
        return FileKind(coding_of(text, encoding, errors), operator.index(bufsize))
    except TypeError as error:
        raise TypeError(f"encoding, errors or bufsize has a wrong type: {error}") from None


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
                # First it is no longer ours: if a signal handler raises in between, it must not be closed twice.
                self.own_pipes &= ~(1 << n)
                os.close(self.fds[n])

    def close(self) -> None:
        """Closes all descriptors that were made here."""
        self.close_far()
        for n, fd in enumerate(self.near):
            self.near[n] = -1
            if fd != -1:
                os.close(fd)

    def files(self, kind: FileKind) -> list[IO[Any] | None]:
        """The caller's ends as files, which own the descriptors from now on; None where there is no pipe."""
        files: list[IO[Any] | None] = []
        for n, fd in enumerate(self.near):
            self.near[n] = -1
            files.append(None if fd == -1 else _opened(_Source(fd, "r") if n else io.FileIO(fd, "w"), kind))
        return files


def _is(stream: Stream, constant: int) -> bool:
    return isinstance(stream, int) and not isinstance(stream, bool) and stream == constant


def _descriptor_of(stream: Any, name: str) -> int:
    """The descriptor of a caller's file, if it may be shown to a tenant.

    A directory would be a way out of the sandbox, and a terminal a way into the caller's session.
    """
    try:
        fd = operator.index(stream.fileno() if hasattr(stream, "fileno") else stream)
    except TypeError:
        hint = ": pass PIPE, and the data to communicate()" if isinstance(stream, (str, bytes, bytearray)) else ""
        raise TypeError(f"{name} = {stream!r} is not allowed; expected: {_ALLOWED}{hint}") from None
    except io.UnsupportedOperation:
        raise ValueError(f"{name} = {stream!r} is not allowed: it is in memory: pass PIPE, and copy") from None
    if isinstance(stream, bool) or fd < 0:
        raise ValueError(f"{name} = {stream!r} is not allowed; expected: {_ALLOWED}")
    found = os.fstat(fd)
    if stat.S_ISCHR(found.st_mode) and found.st_rdev == os.stat(os.devnull).st_rdev:
        return -1
    if not (stat.S_ISREG(found.st_mode) or stat.S_ISFIFO(found.st_mode) or stat.S_ISSOCK(found.st_mode)):
        hint = ": use pty=True, or PIPE and copy" if os.isatty(fd) else ""
        raise ValueError(f"{name} = {stream!r} is not allowed: it is no file, pipe or socket{hint}")
    return fd


def _opened(raw: io.FileIO, kind: FileKind) -> IO[Any]:
    size = kind.bufsize if kind.bufsize > 1 else io.DEFAULT_BUFFER_SIZE
    binary: Any = raw
    if kind.bufsize:
        binary = io.BufferedWriter(raw, size) if raw.writable() else io.BufferedReader(raw, size)
    if kind.coding is None:
        return binary  # type: ignore[no-any-return]
    return io.TextIOWrapper(binary, *kind.coding, line_buffering=kind.bufsize == 1, write_through=True)


class _Source(io.FileIO):
    """The reading side of a pipe, of which `communicate()` may have read the rest."""

    rest: bytes | None = None

    def readall(self) -> bytes:
        return super().readall() if self.rest is None else self.rest

    def read(self, size: int | None = -1, /) -> Any:
        return self.readall() if size is None or size < 0 else super().read(size)


def with_rest(file: IO[Any], rest: bytes) -> Any:
    """All that the caller has not read of a file of `Streams`, whose descriptor has ended: what the buffers of the file
    hold, and the `rest`, which was read of the descriptor."""
    binary: Any = getattr(file, "buffer", file)
    getattr(binary, "raw", binary).rest = rest
    return file.read()


class _Screen(_Source):
    """The reading side of a terminal's master. The kernel reports EIO once no process has the terminal open."""

    def readinto(self, buffer: Any) -> int | None:
        try:
            return super().readinto(buffer)
        except OSError:
            return 0

    def readall(self) -> bytes:
        if self.rest is not None:
            return self.rest
        return b"".join(iter(lambda: self.read(io.DEFAULT_BUFFER_SIZE) or b"", b""))

    def read(self, size: int | None = -1, /) -> Any:
        if size is None or size < 0:
            return self.readall()
        found = bytearray(size)
        count = self.readinto(found)
        return None if count is None else bytes(found[:count])


_GRAIN = 256
"""So many bytes fit at least where a terminal can be written to."""


class _Keyboard(io.FileIO):
    """The writing side of a terminal's master.

    The kernel lets the writer of a full terminal wait, and does not wake it when nobody has the terminal open any more.
    So this one waits before it writes.
    """

    def write(self, data: Any, /) -> Any:
        done, waits = 0, None if os.get_blocking(self.fileno()) else 0
        with memoryview(data) as view, view.cast("B") as left:
            while done < len(left):
                if not has_reader(self.fileno(), waits):
                    raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))
                count = super().write(left[done : done + _GRAIN])
                if count is None and waits is not None:  # there is no room, and it does not block
                    return done or None
                done += count or 0
        return done


def has_reader(fd: int, milliseconds: int | None = 0) -> bool:
    """Whether a full terminal may have room again; with None it waits for that.

    If nobody has it open any more it has none, which the kernel does not tell a writer, other than that of a pipe.
    """
    ready = select.poll()
    ready.register(fd, select.POLLOUT)
    return not any(found & select.POLLHUP and not found & select.POLLOUT for _, found in ready.poll(milliseconds))


def terminal_files(master: int, kind: FileKind) -> tuple[IO[Any], IO[Any]]:
    """The two sides of a terminal's master, to write to and to read from. They own the descriptor from now on."""
    keyboard = _Keyboard(os.dup(master), "w")
    typed = kind._replace(bufsize=1) if kind.bufsize < 0 else kind
    return _opened(keyboard, typed), _opened(_Screen(master, "r"), kind)


def ended_terminal() -> int:
    """The master of a terminal that nobody has open, for a process that was killed before it had a terminal."""
    master, end = os.openpty()
    os.close(end)
    return master
