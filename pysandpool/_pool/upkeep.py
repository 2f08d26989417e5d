"""What a pool keeps: its sizes, and the calls that create or replace idle sandboxes, or wait until it has done so."""

from __future__ import annotations

import operator
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from pysandpool._config.duration import to_nanoseconds
from pysandpool._config.fields import Duration
from pysandpool._config.pool import MAX_POOL_SIZE, PoolConfig
from pysandpool._errors import PoolStateError
from pysandpool._ffi import check, ffi, hot, lib, new_error
from pysandpool._pool.core import PoolCore

MAX_NS = 2**63 - 1


class PoolUpkeep:
    """The methods of a pool that concern its idle sandboxes as a whole, and no lease."""

    __slots__ = ("_core", "_hot", "_pool_config")

    _core: PoolCore
    _hot: Any
    _pool_config: PoolConfig

    @property
    def pool_config(self) -> PoolConfig:
        """The configuration of the pool, with the sizes of the last `resize()`."""
        config = self._pool_config
        min_size, max_size = divmod(hot.sp_pool_sizes(self._hot), 1 << 32)
        if (config.min_size, config.max_size) != (min_size, max_size):
            config = self._pool_config = replace(config, min_size=min_size, max_size=max_size)
        return config

    def warm(self, target: int) -> int:
        """Evicts sandboxes that have been idle for too long, then creates sandboxes until `target` are idle.

        Args:
            target: a number of sandboxes; more than `max_size` is taken as `max_size`.

        Returns:
            The number of sandboxes that were created.

        Raises:
            SandboxCreateError: a sandbox could not be created.
            PoolStateError: the pool is closed, or belongs to the parent process.
            ValueError: `target` is negative.
        """
        wanted = operator.index(target)
        if wanted < 0:
            raise ValueError(f"target = {target!r} is not allowed; expected: an int >= 0")
        self._require_open()
        error = new_error()
        made = lib.sp_warm(self._core.ptr, min(wanted, MAX_POOL_SIZE), error)
        return check(made, self._core.ptr, error)

    def resize(self, min_size: int, max_size: int) -> None:
        """Changes how many idle sandboxes the pool keeps. `pool_config` then has the new values.

        If there are more than `max_size`, the oldest are evicted at once. If there are fewer than `min_size`, the
        others are created in the background: `settle()` waits for them. Leases are not affected.

        Raises:
            InvalidPoolConfigError: a value is outside its range, see `PoolConfig`. Nothing was changed.
            PoolStateError: the pool is closed, or belongs to the parent process.
        """
        config = replace(self._pool_config, min_size=min_size, max_size=max_size)
        self._require_open()
        check(lib.sp_pool_resize(self._core.ptr, config.min_size, config.max_size), self._core.ptr)

    def settle(self, timeout: Duration | None = None) -> bool:
        """Waits until the pool has no work to do: no sandbox is to be recycled, created or killed.

        Released sandboxes are dead then, except for those that `stats().undead_count` counts. A pool that cannot
        create the sandboxes that `min_size` requires always has work to do.

        Args:
            timeout: seconds or a timedelta; None means no limit.

        Returns:
            True if the pool has no work to do, False after the timeout.

        Raises:
            PoolStateError: the pool is or was closed, or belongs to the parent process.
            ValueError: `timeout` is negative.
        """
        return self._wait_for(partial(lib.sp_settle, self._core.ptr), timeout)

    def drain(self, timeout: Duration | None = None) -> bool:
        """Waits until no lease is in use, and evicts every idle sandbox.

        Meanwhile acquires wait, as they do because of `max_in_use`. Afterwards they go on, with fresh sandboxes: the
        pool creates what `min_size` requires. To end a service, stop the callers, and then call `drain()` and
        `close()`. A thread that holds a lease must not call it without a timeout, because it would wait for itself.

        Args:
            timeout: seconds or a timedelta; None means no limit. The idle sandboxes are evicted in any case.

        Returns:
            True if no lease was in use, so that every sandbox was replaced; False after the timeout.

        Raises:
            PoolStateError: the pool is or was closed, or belongs to the parent process.
            ValueError: `timeout` is negative.
        """
        # The garbage collector ends it if an exception prevents the `finally` below from doing so.
        drain = ffi.gc(ffi.new("sp_drain *"), lib.sp_drain_end)
        try:
            return self._wait_for(partial(lib.sp_drain_wait, self._core.ptr, drain), timeout)
        finally:
            lib.sp_drain_end(drain)

    def renew(self, timeout: Duration | None = None) -> bool:
        """Starts the interpreter anew, with what it preloads, and then evicts every idle sandbox.

        The old interpreter creates sandboxes until the new one is ready, and leases of its sandboxes go on. A pool does
        this by itself if it notices, while it creates a sandbox, that a file of a preloaded module has changed. Without
        an `interpreter`, the zygote, which creates the sandboxes, is started anew.

        Args:
            timeout: seconds or a timedelta; None means no limit but `preload_timeout`.

        Returns:
            True if the new one has taken the place of the old one; False after the timeout: it will do so later.

        Raises:
            SandboxCreateError: the new one could not start. The old one stays.
            PoolStateError: the pool is or was closed, or belongs to the parent process.
            ValueError: `timeout` is negative.
        """
        return self._wait_for(renewing(self._core.ptr), timeout)

    def _wait_for(self, wait: Callable[[int], int], timeout: Duration | None) -> bool:
        """Calls `wait`, which waits at most so many nanoseconds, until it returns SP_OK; False after the timeout."""
        timeout_ns = MAX_NS if timeout is None else to_nanoseconds(timeout)
        if timeout_ns < 0:
            timeout_ns = MAX_NS
        self._require_open()
        deadline = time.monotonic_ns() + timeout_ns
        while True:
            left = max(0, min(deadline - time.monotonic_ns(), MAX_NS))
            state = check(wait(left), self._core.ptr)
            if state == lib.SP_OK or left == 0:
                return bool(state == lib.SP_OK)

    def _require_open(self) -> None:
        if self._core.closed:
            raise PoolStateError


def renewing(ptr: Any) -> Callable[[int], int]:
    """A function that has a pool renewed: it waits at most so many nanoseconds, and returns SP_OK or SP_AGAIN."""
    renewal, error = ffi.new("sp_renewal *"), new_error()
    return lambda left: check(lib.sp_renew(ptr, renewal, left, error), ptr, error)
