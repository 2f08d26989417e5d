"""Performs the operations of a file call in one lease, for a caller that waits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from pysandpool._errors import SandboxLostError, UnsupportedPlatformError
from pysandpool._execute.encode import Word
from pysandpool._execute.live import copy_of
from pysandpool._execute.run import prepare_lease
from pysandpool._ffi import check, ffi, lib
from pysandpool._files.request import Answer, Request, Steps, error_of

_T = TypeVar("_T")
_AGAIN = lib.SP_AGAIN
_CHARS = ffi.typeof("char[]")
_close = lib.sp_file_close


class FileCalls:
    """The file calls of the lease `handle` of `pool`, an `sp_pool *` that `keeper` keeps alive."""

    __slots__ = ("_handle", "_keeper", "_pool")

    def __init__(self, keeper: object, pool: Any, handle: int) -> None:
        self._keeper = keeper
        self._pool = pool
        self._handle = handle

    def run(self, steps: Steps[_T]) -> _T:
        """Performs each operation that `steps` yields. Returns the result of `steps`."""
        prepare_lease(self._pool, self._handle)
        try:
            request = next(steps)
            while True:
                try:
                    answer = self._perform(request)
                except BaseException as error:  # noqa: BLE001 - the generator decides
                    request = steps.throw(error)
                else:
                    request = steps.send(answer)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]

    def _perform(self, request: Request) -> Answer:
        # If anything is raised here, the garbage collector closes what the call has open.
        file = ffi.gc(ffi.new("sp_file **"), _close)
        try:
            return self._finish(self._start(request, file), request, file)
        finally:
            _close(file)
            ffi.gc(file, None)

    def _start(self, request: Request, file: Any) -> Any:
        result = ffi.new("sp_file_result *")
        path = ffi.from_buffer(_CHARS, request.path + b"\0")
        second = ffi.NULL if request.second is None else ffi.from_buffer(_CHARS, request.second + b"\0")
        wanted = (ffi.sizeof("sp_file_request"), request.op, request.flags, request.mode, path, second)
        self._check(lib.sp_file_start(self._pool, self._handle, ffi.new("sp_file_request *", wanted), file, result))
        return result

    def _finish(self, result: Any, request: Request, file: Any) -> Answer:
        code = lib.sp_file_wait(file[0], result)
        while code == _AGAIN:  # a signal: Python runs its handler between two calls
            code = lib.sp_file_wait(file[0], result)
        self._check(code)
        if result.err:
            raise error_of(result.err, result.mode, request)
        return Answer(result, lib.sp_file_take(file[0]), copy_of(result.text, result.text_len))

    def _check(self, code: int) -> None:
        if code == lib.SP_E_LOST:
            raise SandboxLostError("the sandbox died; the outcome of the file call is unknown")
        if code == lib.SP_E_UNSUPPORTED:
            raise UnsupportedPlatformError("the sandboxes of this system have no file calls")
        check(code, self._pool)


def opener(calls: FileCalls, descriptor: Callable[[Word, int], Steps[int]]) -> Callable[[Any, int], int]:
    """For `io.open`: opens a path inside by the steps `descriptor(path, flags)`."""
    return lambda path, flags: calls.run(descriptor(path, flags))
