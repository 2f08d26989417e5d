"""Runs one command in one lease."""

from __future__ import annotations

import dataclasses
import errno
import math
import operator
import os
import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from pysandpool._config.duration import to_nanoseconds
from pysandpool._config.fields import Duration
from pysandpool._config.sandbox import MAX_OUTPUT_BYTES, SandboxConfig
from pysandpool._errors import SandboxError
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
from pysandpool._execute.live import Live, copy_of
from pysandpool._execute.result import SandboxResult
from pysandpool._ffi import UNLIMITED_BYTES, check, ffi, hot, lib, stage_name

if TYPE_CHECKING:
    from typing_extensions import Buffer

_T = TypeVar("_T")
_CALL = ffi.typeof("sp_call *")
_CHARS = ffi.typeof("char[]")
_ADDRESS = ffi.typeof("uintptr_t")
_close_call = lib.sp_call_close
_REQUEST_SIZE = ffi.sizeof("sp_exec_request")
_AGAIN = lib.SP_AGAIN
HOME = "/tmp"
"""The default working directory inside."""


class _Exchanging(threading.local):
    """The calls, as (pool, handle, call), whose functions this thread is in."""

    calls: tuple[tuple[Any, int, Any], ...] = ()

    def is_in(self, pool: Any, handle: int) -> bool:
        """Whether this thread is in a function of a call of this lease.

        A signal handler may raise between any two steps, so that a call stays here: then its job is NULL.
        """
        return any(call.job and (pool, handle) == (of, lease) for of, lease, call in self.calls)


_exchanging = _Exchanging()


NO_MORE_PROCESSES = (
    "a lease can have 64 processes and sessions at a time, and max_processes with all their children: wait for some, "
    "or kill them"
)
"""What helps if a process cannot be started with EAGAIN."""
TOO_LONG = (
    "one word of a command has at most 128 KiB, and all with the variables 2 MiB: pass a long script as the input of "
    "['/bin/sh'], or write it into a file by write_file()"
)
"""What helps if a command cannot be executed with E2BIG."""


class CommandDefaults(NamedTuple):
    """The settings of a configuration that apply to each command."""

    environment: Environment
    timeout_ns: int
    max_output_bytes: int
    cpu_time_ns: int = 0
    """0: unlimited"""
    workdir: str | None = None
    """where a command runs that names no directory; None: at home"""
    environment_there: Environment | None = None
    """the same variables, and PWD, for a command that runs in `workdir`"""
    hint_for_missing: Callable[[str, int, str, str, str], str] | None = None
    """Finds what would help if a command or a cwd is missing: see `_backend.missing.Missing` for the arguments."""

    @classmethod
    def of(cls, config: SandboxConfig) -> CommandDefaults:
        """The settings of `config`."""
        most = UNLIMITED_BYTES if config.max_output_bytes is None else config.max_output_bytes
        own_bin = os.path.join(sys.prefix, "bin") if config.fs_python else None
        environment = Environment(config.env_vars, own_bin, config.rootfs)
        defaults = cls(environment, to_nanoseconds(config.timeout_secs), most)
        return defaults if config.workdir is None else defaults.at(config.workdir)

    def at(self, workdir: str) -> CommandDefaults:
        """The same for commands that run in `workdir`."""
        return self._replace(workdir=workdir, environment_there=self.environment.in_directory(workdir))

    def encode_place(self, cwd: Word | None, env: Environ | None) -> tuple[bytes | None, bytes, int]:
        """The working directory of a command, its environment, and the number of variables."""
        there = self.environment_there if cwd is None and self.environment_there is not None else self.environment
        return encode_cwd(self.directory(cwd)), *there.encode(env)

    def directory(self, cwd: Word | None) -> Word | None:
        """The working directory of a command: `cwd`, which may be relative to the default one."""
        if self.workdir is None:
            return cwd
        return self.workdir if cwd is None else os.path.join(os.fsencode(self.workdir), os.fsencode(cwd))

    def keeping(self, most: float) -> CommandDefaults:
        """The same with another `max_output_bytes`, which `math.inf` makes unlimited.

        Raises TypeError if it is no number, and ValueError if it is outside of the range.
        """
        if most == math.inf:
            return self._replace(max_output_bytes=UNLIMITED_BYTES)
        allowed = f"an int, 0 ... {MAX_OUTPUT_BYTES}, or math.inf"
        try:
            number = operator.index(most)  # type: ignore[arg-type]  # a float is refused here
        except TypeError:
            raise TypeError(f"max_output_bytes = {most!r} is not allowed; expected: {allowed}") from None
        if not 0 <= number <= MAX_OUTPUT_BYTES:
            raise ValueError(f"max_output_bytes = {most!r} is not allowed; expected: {allowed}")
        return self._replace(max_output_bytes=number)

    def limiting(self, cpu_time: Duration) -> CommandDefaults:
        """The same with a limit of CPU time, which `math.inf` makes unlimited.

        Raises TypeError if it is no duration, and ValueError if it is not above 0.
        """
        cpu_time_ns = to_nanoseconds(cpu_time, "cpu_time")
        if cpu_time_ns == 0:
            raise ValueError(f"cpu_time = {cpu_time!r} is not allowed; expected: seconds > 0")
        return self._replace(cpu_time_ns=max(0, cpu_time_ns))


def run_command(
    pool: Any,
    handle: int,
    cmd: Words,
    options: tuple[str | Buffer | None, Environ | None, Word | None, Duration | None],
    defaults: CommandDefaults,
    live: Live | None = None,
) -> SandboxResult:
    """Runs `cmd` to its end in the lease `handle` of `pool`; `options`: input, env, cwd and timeout of the call.

    `live` exchanges bytes with the command meanwhile. If it raises an exception, the command is killed.
    """
    if _exchanging.calls and _exchanging.is_in(pool, handle):
        raise SandboxError("a function that takes output of a command cannot execute another one in the same sandbox")
    # If anything is raised here, the garbage collector ends what the call has started.
    call = ffi.gc(ffi.new(_CALL), _close_call)
    _keep = fill_request(call.request, cmd, options, defaults)
    try:
        if live is not None:
            live.begin(call)
        # SP_AGAIN: a signal interrupted the call, or there is something to exchange. Python runs the handler between
        # two calls, and an exception of the handler ends the loop.
        code = lib.sp_call_run(pool, handle, call)
        while code == _AGAIN:
            if live is not None:
                _exchange(live.exchange, pool, handle, call)
            code = lib.sp_call_run(pool, handle, call)
    except BaseException:
        _close_call(call)
        raise
    try:
        if code < 0:
            check(code, pool, call.error, command_name(cmd), hint_for_command(call.error, cmd, options, defaults))
        if live is None:
            return result_of(call.result)
        return live_result(call.result, _exchange(live.finish, pool, handle, call))
    finally:
        # The job has ended, so that this call does not wait: it need not release the GIL and get it back again.
        hot.sp_call_discard(int(ffi.cast(_ADDRESS, call)))
        ffi.gc(call, None)


def prepare_lease(pool: Any, handle: int) -> None:
    """Replaces the sandbox of a lease in which nothing has run, if it has died or shows an outdated path of the host.

    To be called before anything but a command is asked of a lease. Raises what `PooledSandbox.execute` raises.
    """
    if not check(lib.sp_lease_is_unused(pool, handle), pool):
        return
    call = ffi.gc(ffi.new(_CALL), _close_call)
    call.request.size = _REQUEST_SIZE
    call.request.timeout_ns = -1
    code = _AGAIN
    while code == _AGAIN:
        code = lib.sp_call_run(pool, handle, call)
    check(code, pool, call.error)


def fill_request(
    request: Any,
    cmd: Words,
    options: tuple[str | Buffer | None, Environ | None, Word | None, Duration | None],
    defaults: CommandDefaults,
) -> tuple[Any, ...]:
    """Fills the `sp_exec_request`, and returns the objects that its pointers refer to."""
    data, env, cwd, timeout = options
    argv, argc = encode_command(cmd)
    place, environ, envc = defaults.encode_place(cwd, env)
    argv_view, env_view = ffi.from_buffer(_CHARS, argv), ffi.from_buffer(_CHARS, environ)
    cwd_view = input_view = None
    request.size = _REQUEST_SIZE
    request.argc = argc
    request.argv = argv_view
    request.argv_len = len(argv)
    request.env = env_view
    request.env_len = len(environ)
    request.envc = envc
    if place is not None:
        request.cwd = cwd_view = ffi.from_buffer(_CHARS, place)
    if data is not None:
        request.input = input_view = encode_input(data)
        request.input_len = len(input_view)
        request.has_input = 1
    request.timeout_ns = defaults.timeout_ns if timeout is None else to_nanoseconds(timeout)
    request.max_output_bytes = defaults.max_output_bytes
    request.cpu_time_ns = defaults.cpu_time_ns
    return argv_view, env_view, cwd_view, input_view


def hint_for_command(
    error: Any,
    cmd: Words,
    options: tuple[str | Buffer | None, Environ | None, Word | None, Duration | None],
    defaults: CommandDefaults,
) -> str:
    """What would help if the command or its working directory is missing."""
    stage = stage_name(error.stage) if error.code in (lib.SP_E_NOT_FOUND, lib.SP_E_EXEC) else ""
    if stage == "spawn" and error.err == errno.EAGAIN:
        return NO_MORE_PROCESSES
    if stage and error.err == errno.E2BIG:
        return TOO_LONG
    if defaults.hint_for_missing is None or stage not in ("exec", "cwd"):
        return ""
    _, env, cwd, _ = options
    cwd = defaults.directory(cwd)
    where = HOME if cwd is None else os.path.join(HOME, os.fsdecode(cwd))
    name = command_name(cmd) if stage == "exec" else where
    return defaults.hint_for_missing(stage, error.err, name, defaults.environment.path(env), where)


def _exchange(function: Callable[[Any], _T], pool: Any, handle: int, call: Any) -> _T:
    before = tuple(one for one in _exchanging.calls if one[2].job)
    _exchanging.calls = (*before, (pool, handle, call))
    try:
        return function(call)
    finally:
        _exchanging.calls = before


def live_result(result: Any, fields: dict[str, Any]) -> SandboxResult:
    """The result of a call with `fields` in place of what a `Live` has taken."""
    if not fields:
        return result_of(result)
    for name in ("out", "err"):
        if "std" + name in fields:
            setattr(result, name + "_len", 0)
    return dataclasses.replace(result_of(result), **fields)


def result_of(result: Any) -> SandboxResult:
    """The result in an `sp_exec_result`."""
    signal = result.signal
    return SandboxResult(
        copy_of(result.out, result.out_len),
        copy_of(result.err, result.err_len),
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
        result.cpu_time_exceeded != 0,
    )
