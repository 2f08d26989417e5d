"""`SandboxPool`: a pool of live sandboxes that no command has used yet."""

from __future__ import annotations

from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, NoReturn, TypeVar, overload

from pysandpool._config.duration import to_nanoseconds
from pysandpool._config.fields import Duration
from pysandpool._config.pool import PoolConfig
from pysandpool._config.sandbox import SandboxConfig
from pysandpool._config.workspace import StrPath, Workspace, workspace_of
from pysandpool._errors import PoolStateError
from pysandpool._ffi import check, hot, lib
from pysandpool._pool.acquire import lease_by_ticket, release_unowned
from pysandpool._pool.core import open_core
from pysandpool._pool.lease import PooledSandbox
from pysandpool._pool.limits import PoolLimits
from pysandpool._pool.log import log
from pysandpool._pool.snapshot import snapshot
from pysandpool._pool.stats import PoolStats
from pysandpool._pool.upkeep import MAX_NS, PoolUpkeep
from pysandpool._pool.workspace import lease_with_workspace

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack

    from pysandpool._code.options import CodeOptions
    from pysandpool._code.result import CodeResult
    from pysandpool._execute.encode import Words
    from pysandpool._execute.options import BytesRunOptions, EitherRunOptions, TextRunOptions
    from pysandpool._execute.result import SandboxResult

_sp_acquire = hot.sp_acquire

_T = TypeVar("_T")


class SandboxPool(PoolUpkeep):
    """A pool of sandboxes of one configuration. All methods are thread-safe.

    Opening the pool creates `pool_config.min_size` sandboxes in parallel. The pool is closed by `close()`, by leaving
    its `with` block, by garbage collection once neither it nor a lease is referred to, or at exit.

    Args:
        config: what each sandbox is allowed; by default `SandboxConfig()`.
        pool_config: how many sandboxes are kept; by default `PoolConfig()`.

    Raises:
        SandboxCreateError: a sandbox could not be created; no process is left behind.
        UnsupportedPlatformError: there is no backend for this system.
        TypeError: an argument is not a configuration.
    """

    __slots__ = ("__weakref__", "_config")

    def __init__(
        self,
        config: SandboxConfig | None = None,
        pool_config: PoolConfig | None = None,
        *,
        _launcher: Any = None,
    ) -> None:
        self._config = typed(config, SandboxConfig, "config")
        self._pool_config = typed(pool_config, PoolConfig, "pool_config")
        # Tests pass a scripted launcher in place of a zygote.
        self._core = open_core(self._config, PoolLimits.of(self._pool_config), _launcher)
        self._hot = self._core.hot

    @property
    def config(self) -> SandboxConfig:
        """The configuration of each sandbox."""
        return self._config

    def acquire(
        self, timeout: Duration | None = None, *, workspace: Workspace | StrPath | None = None
    ) -> PooledSandbox:
        """Leases the newest idle sandbox, or creates one if none is idle.

        Args:
            timeout: seconds or a timedelta to wait, if `max_in_use` leases are in use, until one is released. None
                means no limit, 0 means not to wait. It does not limit a creation.
            workspace: a directory of the host for this lease alone, at /workspace, where its commands run by default:
                a `Workspace`, or a path, which stands for `Workspace(path, "rw")`. The idle sandbox stays warm.

        Raises:
            AcquireTimeoutError: `max_in_use` leases are in use, and none was released in time.
            SandboxCreateError: no sandbox was idle, and none could be created.
            PoolStateError: the pool is closed, or belongs to the parent process.
            ValueError: `timeout` is negative, or `workspace` is no absolute path.
            FileNotFoundError, NotADirectoryError, PermissionError: `workspace` is no directory that can be reached.
            SandboxError: the workspace could not be attached. No lease is left behind.
        """
        if workspace is not None:
            return lease_with_workspace(partial(self.acquire, timeout), workspace_of(workspace))
        timeout_ns = -1 if timeout is None else to_nanoseconds(timeout)
        pool = self._hot
        try:
            handle = _sp_acquire(pool)
            if handle > 0:
                return PooledSandbox(self._core, pool, handle)
        except BaseException:
            # A signal handler raised, perhaps after C had made a lease that Python does not know yet.
            release_unowned(self._core)
            raise
        check(handle, self._core.ptr)
        return lease_by_ticket(self._core, timeout_ns)

    @overload
    def run(self, cmd: Words, *, text: Literal[False] = ..., **options: Unpack[BytesRunOptions]) -> SandboxResult: ...
    @overload
    def run(self, cmd: Words, *, text: Literal[True], **options: Unpack[TextRunOptions]) -> SandboxResult[str]: ...
    @overload
    def run(self, cmd: Words, *, text: bool = ..., **options: Unpack[EitherRunOptions]) -> SandboxResult[Any]: ...

    def run(
        self,
        cmd: Words,
        *,
        acquire_timeout: Duration | None = None,
        workspace: Workspace | StrPath | None = None,
        **options: Any,
    ) -> SandboxResult[Any]:
        """Runs one command in a sandbox of its own: acquire, execute, release.

        Args:
            cmd: the command and its arguments.
            acquire_timeout: the `timeout` of `acquire`.
            workspace: that of `acquire`.
            options: the keyword arguments of `PooledSandbox.execute`; there, `timeout` is that of the command.

        Raises the errors of `acquire` and of `PooledSandbox.execute`.
        """
        with self.acquire(acquire_timeout, workspace=workspace) as lease:
            return lease.execute(cmd, **options)

    def run_code(
        self,
        code: str,
        *,
        acquire_timeout: Duration | None = None,
        workspace: Workspace | StrPath | None = None,
        **options: Unpack[CodeOptions],
    ) -> CodeResult:
        """Runs Python code in a sandbox of its own: acquire, run_code, release.

        Args:
            code: Python source.
            acquire_timeout: the `timeout` of `acquire`.
            workspace: that of `acquire`.
            options: the keyword arguments of `PooledSandbox.run_code`; there, `timeout` is that of the code.

        Raises the errors of `acquire` and of `PooledSandbox.run_code`.
        """
        with self.acquire(acquire_timeout, workspace=workspace) as lease:
            return lease.run_code(code, **options)

    def stats(self) -> PoolStats:
        """The statistics of the pool, all taken at one moment.

        Raises:
            PoolStateError: the pool is closed, or belongs to the parent process.
        """
        self._require_open()
        log.drain()
        return snapshot(self._core.ptr, self._hot)

    def idle_len(self) -> int:
        """The number of sandboxes that acquires can take without creating one: `stats().idle_count`.

        Raises:
            PoolStateError: the pool is closed, or belongs to the parent process.
        """
        self._require_open()
        return check(hot.sp_idle_len(self._hot), self._core.ptr)

    @property
    def closed(self) -> bool:
        """Whether the pool was closed."""
        return self._core.closed

    def close(self, timeout: Duration = 5.0) -> None:
        """Closes the pool, and kills the sandboxes of leases that are still in use. A second call changes nothing.

        Args:
            timeout: seconds or a timedelta to wait for processes that end by themselves. The others are killed then.
        """
        timeout_ns = to_nanoseconds(timeout)
        self._core.close(MAX_NS if timeout_ns < 0 else timeout_ns)

    def __enter__(self) -> Self:
        self._require_open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "a SandboxPool can be neither copied nor pickled: open one in each process, from config and pool_config"
        )

    def __repr__(self) -> str:
        name = f"SandboxPool pool={self._core.number}"
        if self._core.closed:
            return f"<{name} closed>"
        try:
            now = snapshot(self._core.ptr, self._hot)
        except PoolStateError as error:
            return f"<{name} unusable: {error}>"
        doing = f"recycling={now.recycling_count} starting={now.starting_count} waiting={now.waiting_count}"
        found = f"hits={now.hit_count} waited={now.hit_waited_count} misses={now.miss_count}"
        found += f" undead={now.undead_count}" if now.undead_count else ""
        zygote = lib.sp_pool_zygote_pid(self._core.ptr)
        return f"<{name} idle={now.idle_count} in_use={now.in_use_count} {doing} {found} zygote={zygote}>"


def typed(value: _T | None, kind: type[_T], name: str) -> _T:
    """`value`, or `kind()` for None. Raises TypeError if it is of another type."""
    if value is None:
        return kind()
    if not isinstance(value, kind):
        raise TypeError(f"{name} must be a {kind.__name__}, not {type(value).__name__}")
    return value
