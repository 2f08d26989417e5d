"""One command in one lease: request, run, result."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pysandpool._config import Duration
from pysandpool._duration import to_nanoseconds
from pysandpool._encode import Environ, Word, command_name, encode_command, encode_cwd, encode_input
from pysandpool._ffi import check, ffi, lib, new_error
from pysandpool._open import PoolCore
from pysandpool._result import SandboxResult

_REQUEST_SIZE = ffi.sizeof("sp_exec_request")
_AGAIN = lib.SP_AGAIN
_NULL = ffi.NULL


def run_command(
    core: PoolCore,
    handle: int,
    cmd: Sequence[Word],
    options: tuple[Any, Environ | None, Word | None, Duration | None],
) -> SandboxResult:
    """Runs `cmd` to its end in the lease `handle`; `options` are the call's input, env, cwd and timeout."""
    request, _keep = _request(core, cmd, *options)
    job, result, error = ffi.new("sp_job **"), ffi.new("sp_exec_result *"), new_error()
    try:
        # Interrupted by a signal: Python runs its handlers between two calls, and what they raise ends the
        # loop.
        code = _AGAIN
        while code == _AGAIN:
            code = lib.sp_job_run(core.ptr, handle, request, job, result, error)
        if code < 0:
            check(code, core.ptr, error, command_name(cmd))
        return _result(result)
    finally:
        if job[0] != _NULL:
            lib.sp_job_free(job[0])


def _request(
    core: PoolCore,
    cmd: Sequence[Word],
    data: Any,
    env: Environ | None,
    cwd: Word | None,
    timeout: Duration | None,
) -> tuple[Any, tuple[Any, ...]]:
    """The struct, and the memory that it points to."""
    argv, argc = encode_command(cmd)
    environ, envc = core.environment.encode(env)
    where = encode_cwd(cwd)
    argv_view, env_view = ffi.from_buffer("char[]", argv), ffi.from_buffer("char[]", environ)
    cwd_view = _NULL if where is None else ffi.from_buffer("char[]", where)
    input_view = _NULL if data is None else encode_input(data)
    request = ffi.new("sp_exec_request *")
    request.size = _REQUEST_SIZE
    request.argc = argc
    request.argv = argv_view
    request.argv_len = len(argv)
    request.env = env_view
    request.env_len = len(environ)
    request.envc = envc
    request.cwd = cwd_view
    if data is not None:
        request.has_input = 1
        request.input = input_view
        request.input_len = len(input_view)
    request.timeout_ns = core.timeout_ns if timeout is None else to_nanoseconds(timeout)
    request.max_output_bytes = core.max_output_bytes
    return request, (argv_view, env_view, cwd_view, input_view)


def _result(result: Any) -> SandboxResult:
    signal = result.signal
    return SandboxResult(
        stdout=_copy(result.out, result.out_len),
        stderr=_copy(result.err, result.err_len),
        exit_code=None if signal else result.exit_code,
        signal=signal or None,
        timed_out=bool(result.timed_out),
        elapsed=result.elapsed_ns / 1e9,
        stdout_truncated=bool(result.stdout_truncated),
        stderr_truncated=bool(result.stderr_truncated),
        oom_killed=bool(result.oom_killed),
        user_time=result.user_us / 1e6,
        system_time=result.system_us / 1e6,
        max_rss_bytes=result.max_rss_bytes,
    )


def _copy(data: Any, length: int) -> bytes:
    return ffi.unpack(data, length) if length else b""
