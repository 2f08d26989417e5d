"""An acquire that waits in an event loop, and what `AsyncSandboxPool.acquire()` returns."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from pysandpool._async.backend import Backend, Look
from pysandpool._config.workspace import Workspace
from pysandpool._ffi import check, ffi, lib, new_error
from pysandpool._pool.acquire import check_ticket, release_unowned
from pysandpool._pool.core import PoolCore
from pysandpool._pool.lease import PooledSandbox
from pysandpool._pool.workspace import ATTEMPTS, WorkspaceLease, attach, find

_LOOK = ffi.typeof("sp_due *")
_turn = lib.sp_ticket_turn
_AGAIN = lib.SP_AGAIN


async def lease_by_ticket(backend: Backend, core: PoolCore, timeout_ns: int = -1) -> PooledSandbox:
    """`_pool.acquire.lease_by_ticket` without a thread: all waits are the loop's."""
    ticket, error, look = ffi.gc(ffi.new("sp_ticket **"), lib.sp_ticket_close), new_error(), ffi.new(_LOOK)
    leases: list[PooledSandbox] = []
    code = _AGAIN

    def step() -> Look:
        nonlocal code
        try:
            code = _turn(ticket[0], error, look)
            if code == _AGAIN:
                return look.fd, look.after_ns / 1e9
            if code > 0:
                leases.append(PooledSandbox(core, core.hot, code))
        except BaseException:  # of a signal handler
            release_unowned(core)
            raise
        return None

    try:
        check(lib.sp_ticket_open(core.ptr, timeout_ns, ticket), core.ptr)
        await backend.drive(step, steady=False)
    except BaseException:
        for lease in leases:  # it came just before a cancellation
            lease.release()
        raise
    finally:
        # The garbage collector closes the ticket if an exception prevents this. Neither waits.
        lib.sp_ticket_close(ticket)
    if leases:
        return leases.pop()
    check_ticket(code, timeout_ns, core, error)
    raise AssertionError("a ticket ends with a handle or an error")


async def lease_with_workspace(
    backend: Backend, acquire: Callable[[], Coroutine[Any, Any, PooledSandbox]], workspace: Workspace
) -> PooledSandbox:
    """`_pool.workspace.lease_with_workspace`. What may wait for the disk of the directory does so in a thread."""
    for attempt in range(1, ATTEMPTS + 1):
        found = await backend.in_thread(partial(find, workspace))
        lease = await acquire()
        try:
            if await backend.in_thread(partial(attach, lease, workspace, found, attempt < ATTEMPTS)):
                return WorkspaceLease(lease)
        except BaseException:
            lease.release()
            raise
        lease.release()
    raise AssertionError("the last attempt returns a lease or raises")


class _Enterable(Protocol):
    async def __aenter__(self) -> Any: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None: ...


_E = TypeVar("_E", bound=_Enterable)


class Acquiring(Coroutine[Any, Any, _E]):
    """A coroutine that can also be entered by `async with`, as what it returns.

    It is a coroutine, so that `asyncio.create_task()` and its like take it.
    """

    __slots__ = ("_coroutine", "_entered")

    def __init__(self, coroutine: Coroutine[Any, Any, _E]) -> None:
        self._coroutine = coroutine
        self._entered: _E | None = None

    def send(self, value: Any) -> Any:
        """As of a coroutine, like the next two."""
        return self._coroutine.send(value)

    def throw(self, *error: Any) -> Any:
        """Raises an exception where the coroutine waits."""
        return self._coroutine.throw(*error)

    def close(self) -> None:
        """Ends the coroutine."""
        self._coroutine.close()

    def __await__(self) -> Generator[Any, Any, _E]:
        return self._coroutine.__await__()

    async def __aenter__(self) -> _E:
        self._entered = entered = await self._coroutine
        await entered.__aenter__()
        return entered

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._entered is not None:
            await self._entered.__aexit__(kind, value, traceback)

    if not TYPE_CHECKING:  # a type checker says so as well, of what is not there

        def __enter__(self):
            raise TypeError("use `async with`, not `with`")

        def __exit__(self, *_):
            """For `with`, which looks at it first."""

        def __getattr__(self, name):
            raise AttributeError(f"there is no {name!r} before it is awaited: use `await` or `async with`")
