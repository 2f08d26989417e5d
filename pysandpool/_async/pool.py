"""`AsyncSandboxPool`: a pool for the tasks of event loops."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Generator
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, NoReturn, overload

from pysandpool._async.acquire import Acquiring, lease_by_ticket, lease_with_workspace
from pysandpool._async.backend import Backend, Look
from pysandpool._async.current import current
from pysandpool._async.lease import AsyncPooledSandbox
from pysandpool._config.duration import to_nanoseconds
from pysandpool._config.fields import Duration
from pysandpool._config.pool import PoolConfig
from pysandpool._config.sandbox import SandboxConfig
from pysandpool._config.workspace import StrPath, Workspace, workspace_of
from pysandpool._errors import PoolStateError
from pysandpool._execute.encode import Words
from pysandpool._execute.result import SandboxResult
from pysandpool._ffi import check, ffi, hot, lib
from pysandpool._pool.acquire import release_unowned
from pysandpool._pool.lease import PooledSandbox
from pysandpool._pool.pool import SandboxPool, typed
from pysandpool._pool.stats import PoolStats
from pysandpool._pool.upkeep import renewing

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack

    from pysandpool._code.options import CodeOptions
    from pysandpool._code.result import CodeResult
    from pysandpool._execute.options import BytesRunOptions, EitherRunOptions, TextRunOptions

_sp_acquire = hot.sp_acquire
# Of looks at what no descriptor reports, in seconds.
_SHORTEST_PAUSE = 0.0005
_LONGEST_PAUSE = 0.05


class AsyncSandboxPool:
    """A `SandboxPool` whose calls are awaited: in asyncio, on uvloop, and in trio if anyio is installed.

    It is opened by `async with`, by `await pool.open()` or by `pool = await AsyncSandboxPool(...)`, and closed by
    leaving the block or by `close()`. `acquire` and `execute` wait for descriptors in the event loop and use no thread.
    `open`, `close` and `warm`, which are rare, each wait in a thread; after a cancellation they still wait for its end.
    The tasks of several event loops may use one pool; a lease belongs to the loop that acquired it.

    Args:
        config: what each sandbox is allowed; by default `SandboxConfig()`.
        pool_config: how many sandboxes are kept; by default `PoolConfig()`.

    Raises:
        TypeError: an argument is not a configuration.
    """

    __slots__ = ("__weakref__", "_config", "_launcher", "_opening", "_pool", "_pool_config")

    def __init__(
        self,
        config: SandboxConfig | None = None,
        pool_config: PoolConfig | None = None,
        *,
        _launcher: Any = None,
    ) -> None:
        self._config = typed(config, SandboxConfig, "config")
        self._pool_config = typed(pool_config, PoolConfig, "pool_config")
        self._launcher = _launcher
        self._opening = threading.Lock()
        self._pool: SandboxPool | None = None

    @property
    def config(self) -> SandboxConfig:
        """The configuration of each sandbox."""
        return self._config

    @property
    def pool_config(self) -> PoolConfig:
        """The configuration of the pool, with the sizes of the last `resize()`."""
        return self._pool_config if self._pool is None else self._pool.pool_config

    async def open(self) -> None:
        """Creates `pool_config.min_size` sandboxes in parallel. A second call changes nothing, and waits for the first.

        If the call that opens the pool is cancelled, the pool is closed.

        Raises:
            SandboxCreateError: a sandbox could not be created; no process is left behind.
            UnsupportedPlatformError: there is no backend for this system.
            PoolStateError: the pool was closed.
        """
        if self._pool is not None:
            if self._pool.closed:
                raise PoolStateError
            return
        backend = current()
        opened: list[SandboxPool] = []
        try:
            await backend.in_thread(partial(self._open, opened))
        except BaseException:
            for pool in opened:
                await backend.in_thread(pool.close)
            raise
        if self._opened().closed:
            raise PoolStateError

    def _open(self, opened: list[SandboxPool]) -> None:
        """Opens the pool, if no other task has done so, and puts it into `opened`."""
        with self._opening:
            if self._pool is None:
                self._pool = SandboxPool(self._config, self._pool_config, _launcher=self._launcher)
                opened.append(self._pool)

    def acquire(
        self, timeout: Duration | None = None, *, workspace: Workspace | StrPath | None = None
    ) -> Acquiring[AsyncPooledSandbox]:
        """Leases the newest idle sandbox, or creates one if none is idle.

        Use it as `async with pool.acquire() as sandbox:` or `sandbox = await pool.acquire()`. Arguments and errors are
        those of `SandboxPool.acquire`. If a sandbox is idle, nothing is waited for. Nobody overtakes an acquire that
        waits, whether it waits in an event loop or on a thread. One that waits holds one descriptor and no thread. A
        `workspace` is attached in a thread, because looking at a directory of the host may wait for its disk.
        """
        timeout_ns = -1 if timeout is None else to_nanoseconds(timeout)
        return Acquiring(self._acquire(timeout_ns, None if workspace is None else workspace_of(workspace)))

    async def _acquire(self, timeout_ns: int, workspace: Workspace | None) -> AsyncPooledSandbox:
        backend = current()
        if workspace is None:
            lease = await self._acquire_lease(backend, timeout_ns)
        else:
            acquire = partial(self._acquire_lease, backend, timeout_ns)
            lease = await lease_with_workspace(backend, acquire, workspace)
        return AsyncPooledSandbox(lease, backend.loop)

    async def _acquire_lease(self, backend: Backend, timeout_ns: int) -> PooledSandbox:
        core = self._opened()._core  # noqa: SLF001 - the pool is this one's
        try:
            handle = _sp_acquire(core.hot)
            if handle > 0:
                return PooledSandbox(core, core.hot, handle)
        except BaseException:  # of a signal handler
            release_unowned(core)
            raise
        check(handle, core.ptr)
        return await lease_by_ticket(backend, core, timeout_ns)

    @overload
    async def run(
        self, cmd: Words, *, text: Literal[False] = ..., **options: Unpack[BytesRunOptions]
    ) -> SandboxResult: ...
    @overload
    async def run(
        self, cmd: Words, *, text: Literal[True], **options: Unpack[TextRunOptions]
    ) -> SandboxResult[str]: ...
    @overload
    async def run(self, cmd: Words, *, text: bool = ..., **options: Unpack[EitherRunOptions]) -> SandboxResult[Any]: ...

    async def run(
        self,
        cmd: Words,
        *,
        acquire_timeout: Duration | None = None,
        workspace: Workspace | StrPath | None = None,
        **options: Any,
    ) -> SandboxResult[Any]:
        """Runs one command in a sandbox of its own: acquire, execute, release. See `SandboxPool.run`."""
        async with self.acquire(acquire_timeout, workspace=workspace) as lease:
            result: SandboxResult[Any] = await lease.execute(cmd, **options)
            return result

    async def run_code(
        self,
        code: str,
        *,
        acquire_timeout: Duration | None = None,
        workspace: Workspace | StrPath | None = None,
        **options: Unpack[CodeOptions],
    ) -> CodeResult:
        """Runs Python code in a sandbox of its own: acquire, run_code, release. See `SandboxPool.run_code`."""
        async with self.acquire(acquire_timeout, workspace=workspace) as lease:
            return await lease.run_code(code, **options)

    async def warm(self, target: int) -> int:
        """Creates sandboxes until `target` are idle, see `SandboxPool.warm`."""
        pool = self._opened()
        return await current().in_thread(lambda: pool.warm(target))

    async def resize(self, min_size: int, max_size: int) -> None:
        """Changes how many idle sandboxes the pool keeps. It never waits. See `SandboxPool.resize`."""
        self._opened().resize(min_size, max_size)

    async def settle(self, timeout: Duration | None = None) -> bool:
        """Waits until the pool has no work to do, see `SandboxPool.settle`."""
        pool = self._opened()
        return await _look_often(lambda: pool.settle(0), timeout)

    async def drain(self, timeout: Duration | None = None) -> bool:
        """Waits until no lease is in use, and evicts every idle sandbox, see `SandboxPool.drain`."""
        ptr = self._opened()._core.ptr  # noqa: SLF001 - the pool is this one's
        drain = ffi.gc(ffi.new("sp_drain *"), lib.sp_drain_end)
        try:
            return await _look_often(lambda: check(lib.sp_drain_wait(ptr, drain, 0), ptr) == lib.SP_OK, timeout)
        finally:
            lib.sp_drain_end(drain)

    async def renew(self, timeout: Duration | None = None) -> bool:
        """Starts the interpreter of the sandboxes anew, and evicts every idle sandbox, see `SandboxPool.renew`."""
        renew = renewing(self._opened()._core.ptr)  # noqa: SLF001 - the pool is this one's
        return await _look_often(lambda: renew(0) == lib.SP_OK, timeout)

    async def stats(self) -> PoolStats:
        """The statistics of the pool, all taken at one moment. It never waits. See `SandboxPool.stats`."""
        return self._opened().stats()

    async def idle_len(self) -> int:
        """The number of sandboxes that acquires can take without creating one. It never waits."""
        return self._opened().idle_len()

    @property
    def closed(self) -> bool:
        """Whether the pool was closed. One that was not opened yet is not closed."""
        return self._pool is not None and self._pool.closed

    async def close(self, timeout: Duration = 5.0) -> None:
        """Closes the pool, and kills the sandboxes of leases that are still in use. See `SandboxPool.close`."""
        pool = self._pool
        if pool is not None and not pool.closed:
            await current().in_thread(lambda: pool.close(timeout))

    async def aclose(self) -> None:
        """`close()`, under the name that `contextlib.aclosing` and anyio use."""
        await self.close()

    def __await__(self) -> Generator[Any, Any, Self]:
        return self.__aenter__().__await__()

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "an AsyncSandboxPool can be neither copied nor pickled: open one in each process, from config and "
            "pool_config"
        )

    def __repr__(self) -> str:
        if self._pool is None:
            return "<AsyncSandboxPool not open>"
        return repr(self._pool).replace("SandboxPool", "AsyncSandboxPool", 1)

    def _opened(self) -> SandboxPool:
        if self._pool is None:
            raise PoolStateError("the pool is not open: use `async with pool:` or `await pool.open()`")
        return self._pool


async def _look_often(is_so: Callable[[], bool], timeout: Duration | None) -> bool:
    """Waits until `is_so` returns True, which never waits itself; False after the timeout."""
    timeout_ns = -1 if timeout is None else to_nanoseconds(timeout)
    deadline = math.inf if timeout_ns < 0 else time.monotonic() + timeout_ns / 1e9
    pause, found = _SHORTEST_PAUSE, False

    def look() -> Look:
        nonlocal pause, found
        found = is_so()
        left = deadline - time.monotonic()
        pause = min(2 * pause, _LONGEST_PAUSE)
        return None if found or left <= 0 else (-1, min(pause, left))

    await current().drive(look, steady=False)
    return found
