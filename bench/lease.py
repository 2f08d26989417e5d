"""The contender that is measured: acquire loops, and jobs that each take a fresh sandbox from a pool."""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from time import perf_counter_ns

from measure import Contender, expect, rest
from peers import result_is

from pysandpool import PoolConfig, SandboxConfig, SandboxPool, SandboxResult

OURS = "pysandpool"
SPARE = 8  # more than any row leases at a time
POLL_SECONDS = 0.0002
STEADY_SECONDS = 10.0


def open_pool(size: int, config: SandboxConfig | None = None) -> SandboxPool:
    """A pool with `size` idle sandboxes that never expire.

    `max_size` leaves room for leases. If it equalled `min_size`, the janitor would replace a leased sandbox at once,
    and the release would evict one, so that each job would cost two sandboxes.
    """
    room = PoolConfig(min_size=size, max_size=size + SPARE, max_idle_duration=None)
    return SandboxPool(config or SandboxConfig(), room)


def wait_until_steady(pool: SandboxPool) -> None:
    """Waits 2 ms, and then until the pool is neither recycling nor creating a sandbox, on the other core."""
    deadline = time.monotonic() + STEADY_SECONDS
    rest()
    while True:
        stats = pool.stats()
        if not stats.recycling_count and not stats.starting_count:
            return
        expect(time.monotonic() < deadline, f"the pool still has work to do after {STEADY_SECONDS} s: {stats}")
        time.sleep(POLL_SECONDS)


def job(pool: SandboxPool, cmd: Sequence[str], stdout: bytes, timeout: float | None = None) -> Contender:
    """acquire + execute + release."""

    def run() -> SandboxResult:
        with pool.acquire() as sandbox:
            return sandbox.execute(cmd, timeout=timeout)

    return Contender(OURS, run, result_is(stdout))


def acquire_batch(pool: SandboxPool, count: int) -> float:
    """Seconds per `with pool.acquire(): pass`, of `count` in a row: one is too short for the clock."""
    before = pool.stats()
    start = perf_counter_ns()
    for _ in range(count):
        with pool.acquire():
            pass
    elapsed = perf_counter_ns() - start
    after = pool.stats()
    expect(after.hit_count - before.hit_count == count and after.miss_count == before.miss_count, after)
    return elapsed / count / 1e9


def acquire_singles(pool: SandboxPool, count: int) -> list[float]:
    """Seconds of each `with pool.acquire(): pass`, including about 50 ns of the clock itself; for the tail."""
    before = pool.stats()
    times = _singles(pool.acquire, count)
    after = pool.stats()
    expect(after.hit_count - before.hit_count == count and after.miss_count == before.miss_count, after)
    return times


def empty_singles(count: int) -> list[float]:
    """The same loop around a context manager that does nothing: the cost of the clock and of `with`."""
    nothing: AbstractContextManager[None] = nullcontext()
    return _singles(lambda: nothing, count)


def _singles(enter: Callable[[], AbstractContextManager[object]], count: int) -> list[float]:
    times = array("q", bytes(8 * count))
    for index in range(count):
        start = perf_counter_ns()
        with enter():
            pass
        times[index] = perf_counter_ns() - start
    return [elapsed / 1e9 for elapsed in times]
