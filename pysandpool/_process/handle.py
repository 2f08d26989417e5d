"""One process as the C core has it: start, state, signals. No function here waits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from pysandpool._config.duration import to_nanoseconds
from pysandpool._config.fields import Duration
from pysandpool._errors import SandpoolError
from pysandpool._execute.encode import Environ, Word, Words, command_name, encode_command
from pysandpool._execute.run import CommandDefaults, hint_for_command
from pysandpool._ffi import check, ffi, lib, new_error

_CHARS = ffi.typeof("char[]")


class Program(NamedTuple):
    """What a process is to run."""

    cmd: Words
    env: Environ | None
    cwd: Word | None
    timeout: Duration | None
    terminal: bool
    channel: int | None = None
    """None: `cmd` is executed; else the interpreter of the sandbox takes it, with this descriptor to the caller"""
    adopts: tuple[int, int] | None = None
    """None: a process is started; else the process of this pidfd, which has this pid in the sandbox and is a child of
    init, is taken for it"""
    size: tuple[int, int] = (0, 0)
    """of the terminal: rows and columns"""


class Held(NamedTuple):
    """What a process or a session keeps alive: else garbage collection would release a lease that nobody else has."""

    lease: object
    core: Any
    """the `PoolCore`, without which the `sp_pool *` is freed"""

    @property
    def pool(self) -> Any:
        """The `sp_pool *`."""
        return self.core.ptr

    @property
    def freed(self) -> bool:
        """Whether the pool of the C core was freed."""
        return bool(self.core.freed)


class ProcessHandle:
    """A process of a lease, which is held until the process has ended."""

    __slots__ = ("_box", "_error", "_held", "_hint", "_name", "_pool", "_ptr", "_status")

    def __init__(
        self,
        held: Held,
        lease: int,
        program: Program,
        streams: tuple[Sequence[int], int],
        defaults: CommandDefaults,
    ) -> None:
        self._held: object = held
        self._pool = held.pool
        argv = encode_command(program.cmd)
        self._name = command_name(program.cmd)
        self._status = ffi.new("sp_process_status *")
        self._error = new_error()
        self._hint = (program.cmd, (None, program.env, program.cwd, None), defaults)
        request, _keep = _request(program, argv, streams, defaults)
        # The garbage collector closes it, also if an exception comes between the start and the next line.
        self._box = ffi.gc(ffi.new("sp_process **"), lib.sp_process_close)
        self._check(lib.sp_process_start(held.pool, lease, request, self._box, self._error))
        self._ptr = self._box[0]

    def fileno(self) -> int:
        """The descriptor that is readable when there is news; -1 once the process has ended."""
        return int(lib.sp_process_fd(self._ptr))

    def look(self) -> Any:
        """The state as of now, an `sp_process_status *`. Raises why the process could not be started."""
        self._check(lib.sp_process_poll(self._ptr, self._status, self._error))
        if self._status.state == lib.SP_PROCESS_ENDED and isinstance(self._held, Held):
            self._held = self._held.core
        return self._status

    @property
    def wants_terminal(self) -> bool:
        """Whether it was started with a terminal. One that was killed before it had it has sent none."""
        return bool(self._status.wants_terminal)

    def signal(self, number: int) -> bool:
        """Sends a signal. False: the sandbox has not read the signals before it yet."""
        if self._box[0] == ffi.NULL:  # closed, in a garbage cycle perhaps just before this call
            return True
        return check(lib.sp_process_signal(self._ptr, number), self._pool) != lib.SP_AGAIN

    def close(self) -> None:
        """Closes its descriptors, and kills a process that has not started; only `signal` may be called afterwards.

        The garbage collector would do it, but an exception keeps the frames that it has passed alive, and with them
        what could not be started.
        """
        lib.sp_process_close(self._box)
        self._ptr = ffi.NULL

    def _check(self, code: int) -> None:
        if code < 0:
            if code == lib.SP_E_INVAL:
                raise SandpoolError("the C core refused a process; please report it")
            check(code, self._pool, self._error, self._name, hint_for_command(self._error, *self._hint))


def _request(
    program: Program, encoded: tuple[bytes, int], streams: tuple[Sequence[int], int], defaults: CommandDefaults
) -> tuple[Any, object]:
    """The `sp_process_request *`, and the objects that its pointers refer to."""
    argv, argc = encoded
    cwd, environ, envc = defaults.encode_place(program.cwd, program.env)
    views = [ffi.from_buffer(_CHARS, blob) for blob in (argv, environ)]
    request = ffi.new("sp_process_request *")
    request.size = ffi.sizeof("sp_process_request")
    request.argc, request.argv, request.argv_len = argc, views[0], len(argv)
    request.envc, request.env, request.env_len = envc, views[1], len(environ)
    if cwd is not None:
        views.append(ffi.from_buffer(_CHARS, cwd))
        request.cwd = views[-1]
    request.timeout_ns = to_nanoseconds(program.timeout) or 1
    request.terminal = program.terminal
    request.rows, request.cols = program.size
    request.runs, request.channel = program.channel is not None, -1 if program.channel is None else program.channel
    request.pidfd, request.adopts = (-1, 0) if program.adopts is None else program.adopts
    request.fds, request.own_pipes = list(streams[0]), streams[1]
    return request, views
