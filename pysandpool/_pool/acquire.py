"""An acquire that may wait, and what becomes of a lease when it is interrupted."""

from __future__ import annotations

import gc
from typing import Any

from pysandpool._errors import AcquireTimeoutError
from pysandpool._ffi import check, ffi, hot, lib, new_error
from pysandpool._pool.core import PoolCore
from pysandpool._pool.lease import PooledSandbox


def lease_by_ticket(core: PoolCore, timeout_ns: int = -1) -> PooledSandbox:
    """An acquire that may wait: creates a sandbox, takes one that is being recycled, or waits because of `max_in_use`.

    `timeout_ns` limits only the last of these waits; -1 means no limit. Raises what `SandboxPool.acquire` raises.
    """
    # The garbage collector closes the ticket if an exception prevents the `finally` below from doing so.
    ticket, error = ffi.gc(ffi.new("sp_ticket **"), lib.sp_ticket_close), new_error()
    try:
        check(lib.sp_ticket_open(core.ptr, timeout_ns, ticket), core.ptr)
        # SP_AGAIN: a signal interrupted the call. Python runs the handler between two calls, and an exception of the
        # handler ends the loop.
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
    check_ticket(handle, timeout_ns, core, error)
    raise AssertionError("a ticket ends with a handle or an error")


def check_ticket(code: int, timeout_ns: int, core: PoolCore, error: Any) -> None:
    """Raises the exception for the `code` with which a ticket ended, if it is not a handle."""
    if code == lib.SP_E_TIMEOUT:
        seconds = timeout_ns / 1e9
        raise AcquireTimeoutError(
            f"max_in_use leases are in use, or the pool is being drained, and that did not change within {seconds:g} s",
            seconds,
        )
    check(code, core.ptr, error)


def release_unowned(core: PoolCore) -> None:
    """Releases the lease that this thread acquired last, if no `PooledSandbox` owns it."""
    # The search does not see frozen objects. If there are any, such a lease stays in use until the pool is closed.
    if gc.get_freeze_count() != 0:
        return
    owned = {getattr(user, "_handle", 0) for user in gc.get_referrers(core) if isinstance(user, PooledSandbox)}
    for handle in (hot.sp_last_acquired(core.hot), lib.sp_last_acquired(core.ptr)):
        if handle > 0 and handle not in owned:
            hot.sp_release(core.hot, handle)
