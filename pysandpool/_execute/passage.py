"""Passes the streams of a command to and from descriptors of this process, as the bytes come."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import stat
import sys
from collections.abc import Callable
from typing import Any

from pysandpool._execute.live import copy_of, no_descriptors
from pysandpool._ffi import ffi, lib

_LARGE = 1024 * 1024
"""As much as one turn of C reads: a pipe that takes as much needs fewer turns."""
_MEMORY_DEVICES = 1
"""The major number of /dev/null and its like on Linux."""
_F_SETPIPE_SZ = 1031
_PIPE_BUF = select.PIPE_BUF
"""A pipe that is ready takes that many bytes at once without waiting."""


class Passage:
    """Passes standard input from, and the two outputs to, descriptors that the caller owns.

    The command gets pipes and never one of these descriptors, because a terminal or a file that is open for reading
    and writing would be a way out of the sandbox. It waits while the reader of an output is slow, and its time limit
    holds meanwhile.

    Args:
        stdin: the descriptor to read from; None: the command reads from /dev/null.
        stdout, stderr: the descriptors to write to; None: the output is captured as usual.
        most: bytes of each output to pass on; the rest is dropped, and the result says so. None: all.

    An OSError of a write ends the command and passes through, like BrokenPipeError when nobody reads any more.
    """

    def __init__(self, stdin: int | None, stdout: int | None, stderr: int | None, most: int | None = None) -> None:
        self._source = None if stdin is None else _Source(stdin)
        self._out = None if stdout is None else Sink(stdout, most)
        self._err = None if stderr is None else Sink(stderr, most)

    def begin(self, call: Any) -> None:
        """Makes the streams live that have a descriptor."""
        live = (lib.SP_LIVE_OUT if self._out else 0) | (lib.SP_LIVE_ERR if self._err else 0)
        if self._source:
            live |= lib.SP_LIVE_INPUT
            call.request.has_input = 1
        call.request.live = live
        no_descriptors(call)
        if self._source:
            self._source.bring(call)

    def exchange(self, call: Any) -> None:
        """Moves what can be moved without waiting, and sets the descriptors to wait for."""
        result = call.result
        if self._out and self._out.empty and result.out_len:
            self._out.put(copy_of(result.out, result.out_len))
            call.taken |= lib.SP_LIVE_OUT
        if self._err and self._err.empty and result.err_len:
            self._err.put(copy_of(result.err, result.err_len))
            call.taken |= lib.SP_LIVE_ERR
        call.writable[0] = self._out.pass_on() if self._out else -1
        call.writable[1] = self._err.pass_on() if self._err else -1
        if self._source:
            self._source.bring(call)

    def finish(self, call: Any) -> dict[str, Any]:
        """Writes the rest, however long the readers take."""
        result = call.result
        fields: dict[str, Any] = {}
        if self._out:
            self._out.end(copy_of(result.out, result.out_len))
            fields.update(stdout=b"", stdout_truncated=self._out.truncated)
        if self._err:
            self._err.end(copy_of(result.err, result.err_len))
            fields.update(stderr=b"", stderr_truncated=self._err.truncated)
        return fields


class _Source:
    """A descriptor from which the input comes, piece by piece, when the command has read the piece before."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._ready = select.poll()
        self._ready.register(fd, select.POLLIN)
        self._piece = b""
        if _is_pipe(fd):
            _enlarge(fd)

    def bring(self, call: Any) -> None:
        if call.input_ended or call.request.input_len:
            call.readable = -1
            return
        call.readable = self._fd
        if self._ready.poll(0):
            self._piece = self._read()
            call.request.input = view = ffi.from_buffer("char[]", self._piece)
            call.request.input_len = len(view)
            call.input_ended = not self._piece
            call.readable = -1

    def _read(self) -> bytes:
        try:
            return os.read(self._fd, _LARGE)
        except OSError:
            # nohup(1), for one, leaves a standard input that cannot be read.
            return b""


class Sink:
    """A descriptor to which the bytes of an output go, at most `most` of them if that is not None."""

    def __init__(self, fd: int, most: int | None = None) -> None:
        self._fd = fd
        self._left = most
        self._rest = memoryview(b"")
        self._ready = select.poll()
        self._ready.register(fd, select.POLLOUT)
        self._own = _opened_anew(fd) if _is_pipe(fd) else -1
        # A write to a descriptor of our own never waits.
        self._at_once = 1 << 30 if self._own != -1 or _has_no_reader(fd) else _PIPE_BUF
        self.truncated = False

    def __del__(self, _close: Callable[[int], None] = os.close) -> None:
        if getattr(self, "_own", -1) != -1:
            _close(self._own)

    @property
    def empty(self) -> bool:
        """Whether all that was put has been written."""
        return not self._rest

    def put(self, piece: bytes) -> None:
        """Takes the next bytes, when it is empty."""
        if self._left is not None:
            self.truncated = self.truncated or len(piece) > self._left
            piece = piece[: self._left]
            self._left -= len(piece)
        self._rest = memoryview(piece)

    def pass_on(self) -> int:
        """Writes what can be written without waiting. Returns the descriptor to wait for, or -1."""
        while self._rest:
            if not self._ready.poll(0) or not self._write():
                return self._fd
        return -1

    def end(self, last: bytes) -> None:
        """Writes all that is left, and then the `last` piece."""
        self._write_all()
        self.put(last)
        self._write_all()

    def _write_all(self) -> None:
        while self._rest:
            self._ready.poll()
            self._write()

    def _write(self) -> bool:
        try:
            fd = self._fd if self._own == -1 else self._own
            self._rest = self._rest[os.write(fd, self._rest[: self._at_once]) :]
        except BlockingIOError:  # the pipe is full
            return False
        return True


def _is_pipe(fd: int) -> bool:
    return stat.S_ISFIFO(os.fstat(fd).st_mode)


def _has_no_reader(fd: int) -> bool:
    """Whether it is a regular file or /dev/null, where no write waits for a reader."""
    found = os.fstat(fd)
    is_memory = stat.S_ISCHR(found.st_mode) and os.major(found.st_rdev) == _MEMORY_DEVICES
    return stat.S_ISREG(found.st_mode) or (is_memory and sys.platform.startswith("linux"))


def _enlarge(fd: int) -> None:
    """Lets the pipe hold as much as one turn moves, unless that is beyond a limit of this user."""
    if sys.platform.startswith("linux"):
        with contextlib.suppress(OSError):
            fcntl.fcntl(fd, _F_SETPIPE_SZ, _LARGE)


def _opened_anew(fd: int) -> int:
    """Another descriptor of the same pipe, to which writes do not wait; -1: there is none.

    The flag O_NONBLOCK must not be set on the pipe that the caller gave, because it would hold for all programs that
    write to it.
    """
    if not sys.platform.startswith("linux"):
        return -1
    try:
        own = os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:  # it is another user's, or nobody reads it
        return -1
    _enlarge(own)
    return own
