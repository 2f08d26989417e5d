"""A cancellation at every point where a call waits: the command ends, the lease comes back, nothing is left."""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import time
from collections.abc import Callable, Coroutine
from subprocess import PIPE
from typing import Any

import anyio
import pytest
from eyes import open_fds
from eyes_linux import all_children
from fake import FakeLauncher
from host_state import HostState
from loops import LOOPS, cancelled_at, run_on
from pools import assert_balanced
from scripts import run_script
from waiting import wait_until

from pysandpool import AcquireTimeoutError, AsyncPooledSandbox, AsyncSandbox, AsyncSandboxPool, PoolConfig, _ffi
from pysandpool._async.asyncio_backend import AsyncioBackend

MOMENTS = ("at once", "soon", "late")
MOST = 200
"""Waits of one deed, far more than any has."""

Deed = Callable[[AsyncSandboxPool], Coroutine[Any, Any, None]]


def census(pool: AsyncSandboxPool) -> list[int]:
    """The slots by state: EMPTY, STARTING, IDLE, LEASED, RECYCLING."""
    assert pool._pool is not None
    states, free = _ffi.ffi.new("uint32_t[5]"), _ffi.ffi.new("uint32_t *")
    _ffi.lib.sp_pool_census(pool._pool._core.ptr, states, free)
    assert free[0] == states[0]
    return list(states)


async def check_order(pool: AsyncSandboxPool, zygote: int) -> None:
    """No lease is out, nothing is in the making, and no process is left but those of idle sandboxes."""
    assert await pool.settle(20)
    stats = await pool.stats()
    assert stats.in_use_count == stats.waiting_count == stats.lost_count == 0, stats
    assert_balanced(stats)
    assert census(pool)[1:] == [0, stats.idle_count, 0, 0]
    # Of each idle sandbox its init and the standby.
    living = [pid for pid in all_children(zygote) if os.path.exists(f"/proc/{pid}/exe")]
    assert len(living) <= 2 * stats.idle_count, living


async def execute(pool: AsyncSandboxPool) -> None:
    async with pool.acquire() as lease:
        await lease.execute(["/bin/sh", "-c", "cat; exec sleep 0.02"], input=b"x" * 200_000)


async def stream(pool: AsyncSandboxPool) -> None:
    async def slow(piece: bytes) -> None:
        await asyncio.sleep(0.001)

    async with pool.acquire() as lease:
        await lease.execute(["/bin/sh", "-c", "echo a; sleep 0.01; echo b >&2"], on_stdout=slow, on_stderr=slow)
        await lease.execute(["/bin/true"])


async def time_out(pool: AsyncSandboxPool) -> None:
    async with pool.acquire() as lease:
        assert (await lease.execute(["/bin/sleep", "60"], timeout=0.03)).timed_out


async def create(pool: AsyncSandboxPool) -> None:
    """More than are idle, so that one is created, and one is taken over."""
    async with pool.acquire(), pool.acquire() as second:
        await second.execute(["/bin/true"])
    async with pool.acquire(), pool.acquire(), pool.acquire():
        pass


async def queue(pool: AsyncSandboxPool) -> None:
    """Waits for `max_in_use` behind another task, and then in the queue of one lease."""
    held = [await pool.acquire() for _ in range(3)]
    asyncio.get_running_loop().call_later(0.01, held[0].release)
    try:
        async with pool.acquire() as lease:

            async def other() -> None:
                await lease.execute(["/bin/sleep", "0.02"])

            task = asyncio.create_task(other())
            try:
                await asyncio.sleep(0)
                await lease.execute(["/bin/true"])
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
    finally:
        for one in held:
            one.release()


async def processes(pool: AsyncSandboxPool) -> None:
    async with pool.acquire() as lease:
        async with lease.popen(["/bin/cat"], stdin=PIPE, stdout=PIPE) as process:
            await process.communicate(b"x" * 200_000)
        other = await lease.popen(["/bin/sh", "-c", "echo a; sleep 0.01; echo b"], stdout=PIPE)
        assert other.stdout is not None
        assert [line async for line in other.stdout] == [b"a\n", b"b\n"]
        await other.wait()
        other.stdout.close()


@pytest.mark.parametrize("when", MOMENTS)
@pytest.mark.parametrize("deed", [execute, stream, time_out, create, queue, processes])
def test_at_every_wait_of(deed: Deed, when: str) -> None:
    async def main() -> int:
        async with AsyncSandboxPool(None, PoolConfig(min_size=1, max_size=2, max_in_use=3)) as pool:
            zygote = _ffi.lib.sp_pool_zygote_pid(pool._pool._core.ptr)  # type: ignore[union-attr]
            await check_order(pool, zygote)
            nth, fds = 0, len(open_fds())
            while nth < MOST and await cancelled_at(nth, when, lambda: deed(pool)):
                await check_order(pool, zygote)
                gc.collect()  # a frame of the cancelled task may hold a stream
                # One more idle sandbox; in the Landlock tier the janitor keeps one until it has removed a directory.
                wait_until(lambda: len(open_fds()) <= fds + 2, "no descriptor is left")
                nth += 1
            await check_order(pool, zygote)
            return nth

    assert 1 <= asyncio.run(main()) < MOST


@pytest.mark.parametrize("when", MOMENTS)
def test_at_every_wait_of_a_whole_life(when: str) -> None:
    async def life() -> None:
        async with AsyncSandboxPool(None, PoolConfig(min_size=2)) as pool:
            async with pool.acquire() as lease:
                await lease.execute(["/bin/true"])
            await pool.warm(3)
            await pool.settle(5)
        async with AsyncSandbox() as sandbox:
            await sandbox.execute(["/bin/true"])

    async def main() -> int:
        nth = 0
        while nth < MOST and await cancelled_at(nth, when, life):
            nth += 1
        return nth

    before = HostState()
    assert 1 <= asyncio.run(main()) < MOST
    # The pool of AsyncSandbox keeps its zygote for the next one.
    from pysandpool._pool.sandbox import _zygotes

    _zygotes.forget()
    before.assert_restored()


@pytest.mark.parametrize("loop", LOOPS)
def test_a_cancelled_command_is_killed_and_its_lease_is_usable(loop: str) -> None:
    async def main() -> None:
        async with AsyncSandboxPool() as pool, pool.acquire() as lease:
            start = time.monotonic()
            with anyio.move_on_after(0.1) as scope:
                await lease.execute(["/bin/sh", "-c", "echo left > f; sleep 60 & sleep 60"])
            assert scope.cancelled_caught
            assert time.monotonic() - start < 5
            pid = lease.pid
            found = await lease.execute(["/bin/sh", "-c", "cat f; ls -d /proc/[0-9]* | wc -l"], text=True)
            assert found.stdout.startswith("left\n")
            assert lease.pid == pid
            assert int(found.stdout.split()[1]) <= 6  # init, the shell and its own pipeline

    run_on(loop, main)


def test_a_scope_of_anyio_cancels_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """On asyncio, anyio cancels again in each turn of the loop. What waits for the end of the command is shielded."""
    waits = 0
    drive = AsyncioBackend.drive

    async def counting(*args: Any, **kwargs: Any) -> None:
        nonlocal waits
        waits += 1
        await drive(*args, **kwargs)

    async def main() -> None:
        async with AsyncSandboxPool() as pool, pool.acquire() as lease:
            monkeypatch.setattr(AsyncioBackend, "drive", counting)
            with anyio.move_on_after(0.05):
                await lease.execute(["/bin/sleep", "60"])
            assert waits == 2
            assert (await lease.execute(["/bin/true"])).ok

    anyio.run(main)


def test_many_cancellations_of_one_call_are_one() -> None:
    async def main() -> None:
        async with AsyncSandboxPool() as pool, pool.acquire() as lease:
            task = asyncio.create_task(lease.execute(["/bin/sleep", "60"]))
            await asyncio.sleep(0.1)
            for _ in range(1000):
                task.cancel()
                await asyncio.sleep(0)
                if task.done():
                    break
            with pytest.raises(asyncio.CancelledError):
                await task
            assert (await lease.execute(["/bin/true"])).ok

    asyncio.run(main())


@pytest.mark.skipif(sys.version_info < (3, 11), reason="asyncio.TaskGroup and timeout are of Python 3.11")
def test_task_group_and_timeout() -> None:
    async def main() -> None:
        async with AsyncSandboxPool(None, PoolConfig(min_size=4, max_size=4)) as pool:
            zygote = _ffi.lib.sp_pool_zygote_pid(pool._pool._core.ptr)  # type: ignore[union-attr]

            async def sleep() -> None:
                async with pool.acquire() as lease:
                    await lease.execute(["/bin/sleep", "60"])

            async def fail() -> None:
                await asyncio.sleep(0.1)
                raise LookupError

            with pytest.raises(ExceptionGroup) as failed:  # type: ignore[name-defined,unused-ignore] # noqa: F821, PT012
                async with asyncio.TaskGroup() as group:  # type: ignore[attr-defined,unused-ignore]
                    for _ in range(8):
                        group.create_task(sleep())
                    group.create_task(fail())
            assert [type(error) for error in failed.value.exceptions] == [LookupError]
            await check_order(pool, zygote)

            async def time_out() -> None:
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.1):  # type: ignore[attr-defined,unused-ignore]
                        await sleep()

            # A task of its own: the first TaskGroups of Python 3.11 leave a cancellation counted in theirs.
            await asyncio.create_task(time_out())
            await check_order(pool, zygote)

    asyncio.run(main())


def test_at_every_wait_on_trio() -> None:
    """The scope is cancelled when the task has waited n times; trio's own instruments count."""
    import trio

    class Counter(trio.abc.Instrument):
        def __init__(self, scope: trio.CancelScope, nth: int) -> None:
            self._scope, self._left = scope, nth
            self.task: Any = None

        def after_task_step(self, task: Any) -> None:
            if task is self.task:
                self._left -= 1
                if self._left == -1:
                    self._scope.cancel()

    async def deed(pool: AsyncSandboxPool) -> None:
        async def slow(piece: bytes) -> None:
            await anyio.sleep(0.001)

        async with pool.acquire(), pool.acquire() as lease:
            await lease.execute(["/bin/sh", "-c", "echo a; sleep 0.01; echo b"], on_stdout=slow)
        async with pool.acquire() as lease:
            await lease.execute(["/bin/cat"], input=b"x" * 200_000)

    async def main() -> int:
        async with AsyncSandboxPool(None, PoolConfig(min_size=1, max_size=2)) as pool:
            zygote = _ffi.lib.sp_pool_zygote_pid(pool._pool._core.ptr)  # type: ignore[union-attr]
            for nth in range(MOST):
                with trio.CancelScope() as scope:
                    counter = Counter(scope, nth)
                    counter.task = trio.lowlevel.current_task()
                    trio.lowlevel.add_instrument(counter)
                    try:
                        await deed(pool)
                    finally:
                        trio.lowlevel.remove_instrument(counter)
                await check_order(pool, zygote)
                if not scope.cancelled_caught:
                    return nth
            return MOST

    assert 3 <= trio.run(main) < MOST


def test_a_waiter_that_gives_up_lets_the_next_one_in(launcher: FakeLauncher) -> None:
    async def main() -> None:
        config = PoolConfig(min_size=0, max_in_use=1)
        async with AsyncSandboxPool(None, config, _launcher=launcher._launcher) as pool:
            held = await pool.acquire()
            waiting = [asyncio.create_task(pool.acquire()) for _ in range(3)]  # type: ignore[var-annotated]
            await asyncio.sleep(0.01)
            waiting[0].cancel()
            held.release()
            waiting[1].cancel()  # the lease is its already
            lease: AsyncPooledSandbox = await waiting[2]
            with pytest.raises(AcquireTimeoutError):
                await pool.acquire(timeout=0)
            lease.release()
            for task in waiting[:2]:
                with pytest.raises(asyncio.CancelledError):
                    await task
            assert (await pool.stats()).in_use_count == 0

    asyncio.run(main())


ENDS = """
import asyncio, os, signal, sys, threading, time
from pysandpool import AsyncSandboxPool, PoolConfig, _ffi

async def main():
    pool = AsyncSandboxPool(None, PoolConfig(min_size=2))
    await pool.open()
    print(_ffi.lib.sp_pool_zygote_pid(pool._pool._core.ptr), flush=True)
    async with pool.acquire() as one, pool.acquire() as two:
        if sys.argv[1] == "interrupted":
            threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
        elif sys.argv[1] == "exited":
            asyncio.get_running_loop().call_later(0.3, sys.exit, 7)
        elif sys.argv[1] == "killed":
            asyncio.get_running_loop().call_later(0.3, os.kill, os.getpid(), signal.SIGKILL)
        else:
            asyncio.get_running_loop().call_later(0.3, asyncio.get_running_loop().stop)
        await asyncio.gather(one.execute(["/bin/sleep", "60"]), two.execute(["/bin/sleep", "60"]))

if sys.argv[1] == "stopped":
    loop = asyncio.new_event_loop()
    task = loop.create_task(main())
    loop.run_forever()
    loop.close()
    del task
else:
    asyncio.run(main())
"""


@pytest.mark.parametrize("how", ["interrupted", "exited", "killed", "stopped"])
def test_a_host_that_ends_with_commands_running(how: str) -> None:
    start = time.monotonic()
    done = run_script(ENDS, how)
    assert time.monotonic() - start < 30
    zygote = int(done.stdout.split()[0])
    expected = {"interrupted": "KeyboardInterrupt", "exited": "", "killed": "", "stopped": ""}[how]
    assert expected in done.stderr
    assert done.returncode in {"exited": (7,), "killed": (-9,), "stopped": (0,)}.get(how, (1, -2, 130)), done.stderr
    wait_until(lambda: not all_children(zygote) and not os.path.exists(f"/proc/{zygote}/exe"), "all have ended")
