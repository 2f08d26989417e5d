"""Runs one command in one lease."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from pysandpool._config.duration import to_nanoseconds
from pysandpool._config.fields import Duration
from pysandpool._config.sandbox import SandboxConfig
from pysandpool._execute.encode import (
    Environ,
    Environment,
    Word,
    Words,
    command_name,
    encode_command,
    encode_cwd,
    encode_input,
)
from pysandpool._execute.result import SandboxResult
from pysandpool._ffi import UNLIMITED_BYTES, check, ffi, hot, lib

if TYPE_CHECKING:
    from typing_extensions import Buffer

_CALL = ffi.typeof("sp_call *")
_CHARS = ffi.typeof("char[]")
_ADDRESS = ffi.typeof("uintptr_t")
_close_call = lib.sp_call_close
_REQUEST_SIZE = ffi.sizeof("sp_exec_request")
_AGAIN = lib.SP_AGAIN


class CommandDefaults(NamedTuple):
    """The settings of a configuration that apply to each command."""

    environment: Environment
    timeout_ns: int
    max_output_bytes: int

    @classmethod
    def of(cls, config: SandboxConfig) -> CommandDefaults:
        """The settings of `config`."""
        most = UNLIMITED_BYTES if config.max_output_bytes is None else config.max_output_bytes
        return cls(Environment(config.env_vars), to_nanoseconds(config.timeout_secs), most)


def run_command(
    pool: Any,
    handle: int,
    cmd: Words,
    options: tuple[Buffer | None, Environ | None, Word | None, Duration | None],
    defaults: CommandDefaults,
) -> SandboxResult:
    """Runs `cmd` to its end in the lease `handle` of `pool`; `options`: input, env, cwd and timeout of the call."""
    # If anything is raised here, the garbage collector ends what the call has started.
    call = ffi.gc(ffi.new(_CALL), _close_call)
    _keep = _fill(call.request, cmd, options, defaults)
    try:
        # SP_AGAIN: a signal interrupted the call. Python runs the handler between two calls, and an exception of the
        # handler ends the loop.
        code = _AGAIN
        while code == _AGAIN:
            code = lib.sp_call_run(pool, handle, call)
    except BaseException:
        _close_call(call)
        raise
    try:
        if code < 0:
            check(code, pool, call.error, command_name(cmd))
        return _result(call.result)
    finally:
        # The job has ended, so that this call does not wait: it need not release the GIL and get it back again.
        hot.sp_call_discard(int(ffi.cast(_ADDRESS, call)))
        ffi.gc(call, None)


def _fill(
    request: Any,
    cmd: Words,
    options: tuple[Buffer | None, Environ | None, Word | None, Duration | None],
    defaults: CommandDefaults,
) -> tuple[Any, ...]:
    """Fills the `sp_exec_request`, and returns the objects that its pointers refer to."""
    data, env, cwd, timeout = options
    argv, argc = encode_command(cmd)
    environ, envc = defaults.environment.encode(env)
    argv_view, env_view = ffi.from_buffer(_CHARS, argv), ffi.from_buffer(_CHARS, environ)
    cwd_view = input_view = None
    request.size = _REQUEST_SIZE
    request.argc = argc
    request.argv = argv_view
    request.argv_len = len(argv)
    request.env = env_view
    request.env_len = len(environ)
    request.envc = envc
    if cwd is not None:
        request.cwd = cwd_view = ffi.from_buffer(_CHARS, encode_cwd(cwd))
    if data is not None:
        request.input = input_view = encode_input(data)
        request.input_len = len(input_view)
        request.has_input = 1
    request.timeout_ns = defaults.timeout_ns if timeout is None else to_nanoseconds(timeout)
    request.max_output_bytes = defaults.max_output_bytes
    return argv_view, env_view, cwd_view, input_view


def _result(result: Any) -> SandboxResult:
    signal = result.signal
    return SandboxResult(
        _copy(result.out, result.out_len),
        _copy(result.err, result.err_len),
        None if signal else result.exit_code,
        signal or None,
        result.timed_out != 0,
        result.elapsed_ns / 1e9,
        result.stdout_truncated != 0,
        result.stderr_truncated != 0,
        result.oom_killed != 0,
        result.user_us / 1e6,
        result.system_us / 1e6,
        result.max_rss_bytes,
    )


def _copy(data: Any, length: int) -> bytes:
    return ffi.unpack(data, length) if length else b""
