"""`PooledSandbox`: one lease of a sandbox."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn

from pysandpool._config.fields import Duration
from pysandpool._errors import AcquireTimeoutError, PoolStateError, SandboxReleasedError
from pysandpool._execute.encode import Environ, Word
from pysandpool._execute.result import SandboxResult
from pysandpool._execute.run import run_command
from pysandpool._ffi import check, ffi, hot, lib, new_error
from pysandpool._pool.core import PoolCore
from pysandpool._pool.isolation import IsolationReport, isolation_of

_sp_release = hot.sp_release


if TYPE_CHECKING:
    from typing_extensions import Self


class PooledSandbox:
    """A sandbox that nobody has used before, leased from a pool until it is released.

    Made by `SandboxPool.acquire()`. It is released exactly once: by leaving its `with` block, by `release()`,
    or by garbage collection. What a command has touched is never handed out again.
    """

    # `_handle` is the lease's number at the C pool, 0 once it was released.
    __slots__ = ("__weakref__", "_core", "_handle", "_hot")

    def __init__(self, core: PoolCore, pool: Any, handle: int) -> None:
        self._hot = pool
        self._core = core
        self._handle = handle

    def execute(
        self,
        cmd: Sequence[Word],
        *,
        input: Any = None,
        env: Environ | None = None,
        cwd: Word | None = None,
        timeout: Duration | None = None,
    ) -> SandboxResult:
        """Runs `cmd`, without a shell, until it exits; then kills what it left running.

        Args:
            cmd: the command and its arguments: str, bytes or PathLike. A first word without a slash is looked
            up in
                the PATH that the command gets.
            input: bytes-like, becomes stdin; without it stdin is /dev/null.
            env: changes to the configuration's environment; a value None takes a variable away.
            cwd: working directory inside; default is the private /tmp.
            timeout: seconds or timedelta of wall clock; `math.inf`: none. Default is
            `SandboxConfig.timeout_secs`.

        Raises:
            CommandNotFoundError: it cannot be executed inside.
            SandboxError: it could not be started for another reason, such as a missing `cwd`.
            SandboxLostError: the sandbox died, the outcome is unknown.
            SandboxReleasedError: this lease was released, before or meanwhile.
            PoolStateError: the pool was closed, before or meanwhile, or belongs to the parent process.
            TypeError, ValueError: an argument of a wrong type or value; nothing was started.
        """
        core = self._core
        return run_command(core.ptr, self._live_handle(), cmd, (input, env, cwd, timeout), core.defaults)

    def release(self) -> None:
        """Gives the sandbox back. Never waits and never fails; a second call changes nothing."""
        handle = self._handle
        if handle:
            # C first: the number of a lease that is over is refused there, so an interrupt in between does no
            # harm.
            _sp_release(self._hot, handle)
            self._handle = 0

    @property
    def released(self) -> bool:
        """Whether this lease was given back."""
        return not self._handle

    @property
    def pid(self) -> int:
        """The host's pid of the sandbox's init. Raises `SandboxReleasedError` or `PoolStateError`."""
        return check(lib.sp_lease_pid(self._core.ptr, self._live_handle()), self._core.ptr)

    @property
    def isolation(self) -> IsolationReport:
        """What was proved of this sandbox before its first command. Raises as `pid` does, `SandboxLostError` too."""
        return isolation_of(self._core.ptr, self._live_handle(), self._core.config)

    def __enter__(self) -> Self:
        if not self._handle:
            raise SandboxReleasedError
        if self._core.closed:
            raise PoolStateError
        return self

    # The body of release() again, three times in all: a call more is a tenth of the budget of an acquire.
    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        handle = self._handle
        if handle:
            _sp_release(self._hot, handle)
            self._handle = 0

    def __del__(self, _release: Any = _sp_release) -> None:
        # The leak net. `_release` is bound here because a module's names may be gone at exit.
        try:
            if self._handle and not self._core.freed:
                _release(self._hot, self._handle)
        except AttributeError:  # interrupted before __init__ had set anything
            return

    def __reduce__(self) -> NoReturn:
        raise TypeError("a lease can be neither copied nor pickled: send the commands to it, and their results back")

    def __repr__(self) -> str:
        if not self._handle:
            return "<PooledSandbox released>"
        pid = lib.sp_lease_pid(self._core.ptr, self._handle)
        return f"<PooledSandbox leased pid={pid}>" if pid > 0 else f"<PooledSandbox {_state(pid)}>"

    def _live_handle(self) -> int:
        handle = self._handle
        if not handle:
            raise SandboxReleasedError
        return handle


def _state(code: int) -> str:
    words = {
        lib.SP_E_CLOSED: "closed",
        lib.SP_E_FORKED: "of the parent process",
        lib.SP_E_RELEASED: "released",
    }
    return words.get(code, "lost")


def lease_by_ticket(core: PoolCore, timeout_ns: int = -1) -> PooledSandbox:
    """A lease by ticket: creates a sandbox, takes over one that is being recycled, or waits for `max_in_use`."""
    # Closed by the collector when another exception keeps the `finally` below from it.
    ticket, error = ffi.gc(ffi.new("sp_ticket **"), lib.sp_ticket_close), new_error()
    try:
        check(lib.sp_ticket_open(core.ptr, timeout_ns, ticket), core.ptr)
        # Interrupted by a signal: Python runs its handlers between two calls, and what they raise ends the
        # loop.
        handle = lib.SP_AGAIN
        while handle == lib.SP_AGAIN:
            handle = lib.sp_ticket_poll(ticket[0], error)
        if handle > 0:
            return PooledSandbox(core, core.hot, handle)
    except BaseException:
        release_unowned(core)
        raise
    finally:
        lib.sp_ticket_close(ticket)
    if handle == lib.SP_E_TIMEOUT:
        seconds = timeout_ns / 1e9
        raise AcquireTimeoutError(f"max_in_use leases are out, none came back within {seconds:g} s", seconds)
    check(handle, core.ptr, error)
    raise AssertionError("a ticket ends with a handle or an error")


def release_unowned(core: PoolCore) -> None:
    """Gives back the lease that this thread got last, when no `PooledSandbox` stands for it."""
    # What is frozen is not searched: then such a lease stays out until the pool is closed.
    if gc.get_freeze_count() != 0:
        return
    owned = {getattr(user, "_handle", 0) for user in gc.get_referrers(core) if isinstance(user, PooledSandbox)}
    for handle in (hot.sp_last_acquired(core.hot), lib.sp_last_acquired(core.ptr)):
        if handle > 0 and handle not in owned:
            hot.sp_release(core.hot, handle)
