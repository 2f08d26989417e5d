"""One operation of a file call in the C core, for callers that wait and for callers on an event loop."""

from __future__ import annotations

import os
from typing import Any, NamedTuple

from pysandpool._errors import SandboxLostError, UnsupportedPlatformError
from pysandpool._execute.live import copy_of
from pysandpool._ffi import check, ffi, lib
from pysandpool._files.request import SYMLINK, Answer, Request, error_of

_AGAIN = lib.SP_AGAIN
_CHARS = ffi.typeof("char[]")
_close = lib.sp_file_close
_HINT = "execute() a command that reads or writes the file, such as cat"


class LeaseFiles(NamedTuple):
    """The files of one lease."""

    keeper: object
    """what keeps `pool` alive"""
    pool: Any
    """an `sp_pool *`"""
    handle: int
    """the number of the lease"""
    directory: bytes | None
    """where relative paths begin; None: at home"""

    def place(self, path: bytes) -> bytes:
        """`path` from the directory in which commands start."""
        return path if self.directory is None else os.path.join(self.directory, path)


class Operation:
    """An operation that has been sent to init. If nobody closes it, the garbage collector does."""

    __slots__ = ("_file", "_pool", "_request", "_result")

    def __init__(self, lease: LeaseFiles, request: Request) -> None:
        self._file = ffi.gc(ffi.new("sp_file **"), _close)
        self._result = ffi.new("sp_file_result *")
        self._pool = lease.pool
        self._request = request
        text = request.path if request.op == SYMLINK else lease.place(request.path)
        path = ffi.from_buffer(_CHARS, text + b"\0")
        second = ffi.NULL
        if request.second is not None:
            second = ffi.from_buffer(_CHARS, lease.place(request.second) + b"\0")
        wanted = (ffi.sizeof("sp_file_request"), request.op, request.flags, request.mode, path, second)
        code = lib.sp_file_start(
            lease.pool, lease.handle, ffi.new("sp_file_request *", wanted), self._file, self._result
        )
        self._check(code)

    @property
    def fd(self) -> int:
        """The descriptor that can be read when the answer is there."""
        return int(lib.sp_file_fd(self._file[0]))

    def wait(self) -> bool:
        """Waits for the answer. False: a signal interrupted the wait."""
        return bool(self._check(lib.sp_file_wait(self._file[0], self._result)) != _AGAIN)

    def poll(self) -> bool:
        """Whether the answer is there."""
        return bool(self._check(lib.sp_file_poll(self._file[0], self._result)) != _AGAIN)

    def answer(self) -> Answer:
        """The answer, once it is there. Raises the OSError of the operation."""
        result = self._result
        if result.err:
            raise error_of(result.err, result.mode, self._request)
        return Answer(result, lib.sp_file_take(self._file[0]), copy_of(result.text, result.text_len))

    def close(self) -> None:
        """Gives up the answer, if it has not been taken."""
        _close(self._file)
        ffi.gc(self._file, None)

    def _check(self, code: int) -> int:
        if code == lib.SP_E_LOST:
            raise SandboxLostError("the sandbox died; the outcome of the file call is unknown")
        if code == lib.SP_E_UNSUPPORTED:
            raise UnsupportedPlatformError("the sandboxes of this system have no file calls", hint=_HINT)
        return check(code, self._pool)
