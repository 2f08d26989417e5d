"""An event loop: how late it is while commands run on it, and one command against `asyncio.create_subprocess_exec`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from lease import OURS, SPARE, wait_until_steady
from loop_peers import PEER, spawn_in_loop, ticks
from measure import Contender, Distribution, expect, interleave
from peers import ECHO, ECHO_OUT, completed_is, result_is
from row import Bench, Budget, Effort, Row

from pysandpool import AsyncSandboxPool, PoolConfig, SandboxPool, SandboxResult

POOL_SIZE = 8
RATE = 200
"""Commands that start in each second."""
Job = Callable[[], Awaitable[object]]


def _open_pool() -> AsyncSandboxPool:
    return AsyncSandboxPool(None, PoolConfig(min_size=POOL_SIZE, max_size=POOL_SIZE + SPARE, max_idle_duration=None))


def _inner(pool: AsyncSandboxPool) -> SandboxPool:
    inner = pool._pool
    expect(inner is not None, "the pool is not open")
    assert inner is not None
    return inner


async def _inside(pool: AsyncSandboxPool) -> SandboxResult:
    async with pool.acquire() as lease:
        return await lease.execute(ECHO)


async def _lags(seconds: float, job: Job | None) -> list[float]:
    """The lags while `RATE` jobs a second run for so long."""
    lags: list[float] = []
    tasks: list[asyncio.Task[object]] = []

    async def one(run: Job) -> object:
        return await run()

    with ticks(lags):
        await asyncio.sleep(0.3)
        lags.clear()
        start = time.monotonic()
        for number in range(int(seconds * RATE)):
            await asyncio.sleep(start + number / RATE - time.monotonic())
            if job is not None:
                tasks.append(asyncio.create_task(one(job)))
        await asyncio.gather(*tasks)
        took = time.monotonic() - start
        await asyncio.sleep(0.01)
    expect(took < seconds * 1.5, f"{len(tasks)} jobs took {took:.1f} s in place of {seconds:.1f} s")
    return lags


def lag(effort: Effort) -> list[Row]:
    seconds = effort.samples(10, 2)

    async def measure() -> tuple[list[float], list[float], list[float]]:
        async with _open_pool() as pool:
            idle = await _lags(seconds / 2, None)
            ours = await _lags(seconds, lambda: _inside(pool))
            await pool.settle(10)
            theirs = await _lags(seconds, spawn_in_loop)
            return idle, ours, theirs

    idle, ours, theirs = (Distribution.of(found) for found in asyncio.run(measure()))
    return [
        Row(
            name="loop_lag",
            figure=f"event-loop lag while {RATE} executes a second run on it, p99",
            unit="s",
            value=ours.p99,
            budget=Budget("value", "<=", 0.002),
            samples=ours,
            baseline=theirs.p99,
            against=PEER,
            note=f"without commands {idle.p99 * 1e3:.2f} ms",
        )
    ]


def loop_echo(effort: Effort) -> list[Row]:
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        pool = loop.run_until_complete(_opened())
        times = interleave(
            [
                Contender(OURS, lambda: loop.run_until_complete(_inside(pool)), result_is(ECHO_OUT)),
                Contender(PEER, lambda: loop.run_until_complete(spawn_in_loop()), completed_is(ECHO_OUT)),
            ],
            effort.samples(1000, 100),
            between=lambda: wait_until_steady(_inner(pool)),
        )
        loop.run_until_complete(pool.close())
        loop.run_until_complete(loop.shutdown_default_executor())
    finally:
        asyncio.set_event_loop(None)
        loop.close()
    samples = Distribution.of(times[OURS])
    return [
        Row(
            name="loop_echo",
            figure="the same as echo, awaited in an event loop, p50",
            unit="s",
            value=samples.p50,
            budget=Budget("ratio", "<=", 0.95),
            samples=samples,
            baseline=Distribution.of(times[PEER]).p50,
            against=PEER,
        )
    ]


async def _opened() -> AsyncSandboxPool:
    return await _open_pool()


BENCHES = (Bench(("loop_lag",), lag), Bench(("loop_echo",), loop_echo))
