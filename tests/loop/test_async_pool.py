"""`AsyncSandboxPool` and `AsyncSandbox` on each event loop: acquiring, waiting, opening, closing."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import gc
import pickle
import subprocess
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from eyes import open_fds, thread_count
from fake import FakeLauncher
from loops import LOOPS, run_on
from pools import assert_balanced
from waiting import wait_until

from pysandpool import (
    AcquireTimeoutError,
    AsyncPooledSandbox,
    AsyncSandbox,
    AsyncSandboxPool,
    PoolConfig,
    PoolStateError,
    SandboxConfig,
    SandboxCreateError,
    SandboxPool,
    SandboxReleasedError,
    Workspace,
)

each_loop = pytest.mark.parametrize("loop", LOOPS)


@contextlib.asynccontextmanager
async def fake_pool(launcher: FakeLauncher, **fields: Any) -> AsyncIterator[AsyncSandboxPool]:
    pool = AsyncSandboxPool(None, PoolConfig(**{"min_size": 0, **fields}), _launcher=launcher._launcher)
    async with pool:
        yield pool


@each_loop
def test_fifty_tasks_share_two_leases(loop: str) -> None:
    async def main() -> None:
        async with AsyncSandboxPool(None, PoolConfig(min_size=2, max_in_use=2)) as pool:
            found: list[int] = []
            threads = thread_count()
            most = 0

            async def job(number: int) -> None:
                nonlocal most
                async with pool.acquire(timeout=60) as lease:
                    result = await lease.execute(["/bin/echo", str(number)], text=True)
                    most = max(most, (await pool.stats()).in_use_count)
                    assert thread_count() <= threads
                    found.append(int(result.stdout))

            async with anyio.create_task_group() as group:
                for number in range(50):
                    group.start_soon(job, number)
            assert sorted(found) == list(range(50))
            assert most == 2
            stats = await pool.stats()
            assert stats.in_use_count == stats.waiting_count == 0
            assert_balanced(stats)

    run_on(loop, main)


@each_loop
def test_five_hundred_commands_at_once(loop: str) -> None:
    """More than `max_size` live at a time; nothing is left of them, and no thread was started for them."""

    async def main() -> None:
        async with AsyncSandboxPool(None, PoolConfig(min_size=4, max_size=8, max_in_use=100)) as pool:
            await pool.settle()
            fds, threads = len(open_fds()), thread_count()
            most = 0
            found: list[int] = []

            async def job(number: int) -> None:
                nonlocal most
                async with pool.acquire() as lease:
                    result = await lease.execute(["/bin/echo", str(number)], text=True)
                    most = max(most, thread_count())
                    found.append(int(result.stdout))

            async with anyio.create_task_group() as group:
                for number in range(500):
                    group.start_soon(job, number)
            assert sorted(found) == list(range(500))
            assert most <= threads
            assert await pool.settle(30)
            stats = await pool.stats()
            assert stats.in_use_count == 0
            assert stats.hit_count + stats.miss_count == 500
            assert len(open_fds()) <= fds + 2 * (stats.idle_count - 4)

    run_on(loop, main)


@each_loop
def test_an_idle_sandbox_is_leased_without_a_turn_of_the_loop(loop: str, launcher: FakeLauncher) -> None:
    async def main() -> None:
        async with fake_pool(launcher) as pool:
            assert await pool.warm(1) == 1
            step = pool.acquire()
            with pytest.raises(StopIteration) as found:
                step.send(None)
            lease = found.value.value
            assert isinstance(lease, AsyncPooledSandbox)
            assert lease.pid > 0
            await lease.release()

    run_on(loop, main)


@each_loop
def test_nobody_overtakes_a_waiter(loop: str, launcher: FakeLauncher) -> None:
    async def main() -> None:
        async with fake_pool(launcher, max_in_use=1) as pool:
            await pool.warm(1)
            order: list[int] = []
            lease = await pool.acquire()

            async def wait(number: int) -> None:
                async with pool.acquire():
                    order.append(number)

            async with anyio.create_task_group() as group:
                for number in range(5):
                    group.start_soon(wait, number)
                    while (await pool.stats()).waiting_count <= number:
                        await anyio.sleep(0.001)
                lease.release()
                with pytest.raises(AcquireTimeoutError):  # the lease is the first waiter's already
                    await pool.acquire(timeout=0)
            assert order == list(range(5))

    run_on(loop, main)


@each_loop
def test_a_wait_ends_at_its_timeout(loop: str, launcher: FakeLauncher) -> None:
    async def main() -> None:
        async with fake_pool(launcher, max_in_use=1) as pool, pool.acquire():
            start = time.monotonic()
            with pytest.raises(AcquireTimeoutError) as failed:
                await pool.acquire(timeout=0.1)
            assert 0.1 <= time.monotonic() - start < 5
            assert failed.value.timeout == 0.1
            with pytest.raises(AcquireTimeoutError):
                await pool.acquire(timeout=0)
            with pytest.raises(ValueError, match="timeout"):
                pool.acquire(timeout=-1)
            assert (await pool.stats()).waiting_count == 0

    run_on(loop, main)


@each_loop
def test_a_thread_and_a_task_wait_in_one_queue(loop: str, launcher: FakeLauncher) -> None:
    async def main() -> None:
        async with fake_pool(launcher, max_in_use=1) as pool:
            lease = await pool.acquire()
            inner = pool._pool
            assert inner is not None
            other: list[Any] = []
            thread = threading.Thread(target=lambda: other.append(inner.acquire(timeout=10)))
            thread.start()
            wait_until(lambda: inner.stats().waiting_count == 1, "the thread waits")
            release = threading.Timer(0.05, lambda: other[0].release())  # noqa: PLW0108 - it comes later
            async with anyio.create_task_group() as group:

                async def second() -> None:
                    async with pool.acquire(timeout=10):
                        assert other[0].released

                group.start_soon(second)
                while inner.stats().waiting_count < 2:
                    await anyio.sleep(0.001)
                lease.release()
                while not other:
                    await anyio.sleep(0.001)
                release.start()
            thread.join()
            release.join()

    run_on(loop, main)


@each_loop
def test_a_creation_is_waited_for_in_the_loop(loop: str, launcher: FakeLauncher) -> None:
    async def main() -> None:
        launcher.delay(0.2)
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                await anyio.sleep(0.005)
                ticks += 1

        async with fake_pool(launcher) as pool, anyio.create_task_group() as group:
            group.start_soon(tick)
            threads = thread_count()
            async with pool.acquire():
                assert (await pool.stats()).miss_count == 1
            assert thread_count() <= threads
            assert ticks >= 5
            launcher.fail(err=11)
            with pytest.raises(SandboxCreateError):
                async with pool.acquire(), pool.acquire():
                    pass
            assert (await pool.stats()).in_use_count == 0
            group.cancel_scope.cancel()

    run_on(loop, main)


@each_loop
def test_a_used_place_is_taken_over(loop: str) -> None:
    """The lease that waits gets the entry that is being recycled, and both are hits."""

    async def main() -> None:
        async with AsyncSandboxPool(None, PoolConfig(min_size=1, max_size=1)) as pool:
            for _ in range(20):
                async with pool.acquire() as lease:
                    assert (await lease.execute(["/bin/true"])).ok
            stats = await pool.stats()
            assert stats.hit_count == 20
            assert stats.hit_waited_count > 0

    run_on(loop, main)


@each_loop
def test_tasks_that_open_a_pool_at_once_open_one(loop: str) -> None:
    async def main() -> None:
        launcher = FakeLauncher()
        pool = AsyncSandboxPool(None, PoolConfig(min_size=1, max_size=1), _launcher=launcher._launcher)
        async with anyio.create_task_group() as tasks:
            for _ in range(8):
                tasks.start_soon(pool.open)
        assert launcher.created == 1
        await pool.close()

    run_on(loop, main)


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_cancelled_open_closes_only_what_it_has_opened(loop: str, monkeypatch: pytest.MonkeyPatch) -> None:
    launcher = FakeLauncher()
    begun, goes_on = threading.Event(), threading.Event()

    class SlowPool(SandboxPool):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            begun.set()
            assert goes_on.wait(60)
            super().__init__(*arguments, **options)

    monkeypatch.setattr("pysandpool._async.pool.SandboxPool", SlowPool)

    async def main() -> None:
        pool = AsyncSandboxPool(None, PoolConfig(min_size=1, max_size=1), _launcher=launcher._launcher)
        first = asyncio.ensure_future(pool.open())
        await asyncio.to_thread(begun.wait, 60)
        second = asyncio.ensure_future(pool.open())
        await asyncio.sleep(0.1)
        second.cancel()
        await asyncio.sleep(0.1)
        goes_on.set()
        await first
        with pytest.raises(asyncio.CancelledError):
            await second
        async with pool.acquire():
            pass
        await pool.close()

    run_on(loop, main)


@each_loop
def test_closing_ends_waits_and_leases(loop: str) -> None:
    async def main() -> None:
        pool = AsyncSandboxPool(None, PoolConfig(min_size=1, max_in_use=1))
        await pool.open()
        await pool.open()
        lease = await pool.acquire()
        raised: list[type[BaseException]] = []

        async def expect(what: Any) -> None:
            try:
                await what
            except Exception as error:  # noqa: BLE001 - looked at below
                raised.append(type(error))

        async with anyio.create_task_group() as group:
            group.start_soon(expect, pool.acquire())
            group.start_soon(expect, lease.execute(["/bin/sleep", "60"]))
            await anyio.sleep(0.1)
            await pool.close()
        assert raised == [PoolStateError, PoolStateError]
        assert pool.closed
        await pool.aclose()
        for use in (pool.acquire(), pool.stats(), pool.idle_len(), pool.warm(1), pool.open()):
            with pytest.raises(PoolStateError, match="closed"):
                await use
        with pytest.raises(PoolStateError):
            async with lease:
                pass
        await lease.release()

    run_on(loop, main)


@each_loop
def test_a_workspace(loop: str, host_dir: Path) -> None:
    work = host_dir / "work"
    work.mkdir()
    work.chmod(0o777)

    async def main() -> None:
        async with AsyncSandboxPool(None, PoolConfig(min_size=1)) as pool:
            async with pool.acquire(workspace=work) as lease:
                assert (await lease.shell("pwd; echo text > file", text=True)).stdout == "/workspace\n"
                async with lease.popen(["/bin/sh", "-c", "pwd"], stdout=subprocess.PIPE) as process:
                    assert await process.communicate() == (b"/workspace\n", None)
            assert (work / "file").read_text() == "text\n"
            assert (await pool.run(["/bin/cat", "file"], workspace=work)).stdout == b"text\n"
            with pytest.raises(FileNotFoundError):
                await pool.acquire(workspace=work / "missing")
            for delay in (0, 0.0005, 0.002):
                with anyio.move_on_after(delay):
                    async with pool.acquire(workspace=Workspace(work, "ro")):
                        await anyio.sleep(1)
            assert (await pool.stats()).in_use_count == 0
        async with AsyncSandbox(workspace=Workspace(work, "ro")) as sandbox:
            assert (await sandbox.execute(["/bin/cat", "file"])).stdout == b"text\n"

    run_on(loop, main)


@each_loop
def test_draining_waits_for_leases(loop: str) -> None:
    async def main() -> None:
        async with AsyncSandboxPool(None, PoolConfig(min_size=2)) as pool:
            lease = await pool.acquire()
            assert not await pool.drain(0.05)
            late: list[float] = []

            async def wait() -> None:
                await anyio.sleep(0.05)
                async with pool.acquire():
                    late.append(time.monotonic())

            async with anyio.create_task_group() as group:
                group.start_soon(wait)

                async def release() -> None:
                    await anyio.sleep(0.2)
                    lease.release()

                group.start_soon(release)
                assert await pool.drain()
                drained = time.monotonic()
            assert late[0] > drained - 0.1
            with anyio.move_on_after(0.05) as scope:
                async with pool.acquire():
                    await pool.drain()
            assert scope.cancelled_caught
            await pool.resize(0, 3)
            assert (pool.pool_config.min_size, pool.pool_config.max_size) == (0, 3)
            assert (await pool.run(["/bin/echo", "x"], text=True, acquire_timeout=10)).stdout == "x\n"

    run_on(loop, main)


@each_loop
def test_a_pool_that_is_not_open_says_so(loop: str) -> None:
    async def main() -> None:
        pool = AsyncSandboxPool()
        assert repr(pool) == "<AsyncSandboxPool not open>"
        assert not pool.closed
        for use in (pool.acquire(), pool.stats(), pool.warm(1)):
            with pytest.raises(PoolStateError, match="not open: use `async with pool:`"):
                await use
        await pool.close()
        opened = await AsyncSandboxPool(SandboxConfig(memory_limit_mb=64))
        assert opened.config.memory_limit_mb == 64
        assert opened.pool_config == PoolConfig()
        assert repr(opened).startswith("<AsyncSandboxPool pool=")
        await opened.close()

    run_on(loop, main)


def test_bad_arguments_are_refused_before_anything_starts() -> None:
    with pytest.raises(TypeError, match="config must be a SandboxConfig"):
        AsyncSandboxPool(PoolConfig())  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="config must be a SandboxConfig"):
        AsyncSandbox(3)  # type: ignore[arg-type]


@each_loop
def test_an_opening_that_fails_leaves_nothing(loop: str) -> None:
    async def main() -> None:
        missing = AsyncSandboxPool(SandboxConfig(fs_readonly=("/no/such/path",)))
        with pytest.raises(SandboxCreateError):
            await missing.open()
        assert repr(missing) == "<AsyncSandboxPool not open>"

    run_on(loop, main)


def test_a_lease_belongs_to_its_loop(launcher: FakeLauncher) -> None:
    async def first() -> tuple[AsyncSandboxPool, AsyncPooledSandbox]:
        pool = await AsyncSandboxPool(None, PoolConfig(min_size=0), _launcher=launcher._launcher)
        return pool, await pool.acquire()

    pool, lease = asyncio.run(first())

    async def second() -> None:
        with pytest.raises(RuntimeError, match="another event loop"):
            await lease.execute(["/bin/true"])
        lease.release()
        async with pool.acquire() as own:  # a pool belongs to none
            assert (await own.execute(["/bin/true"])).ok
        await pool.close()

    asyncio.run(second())


def test_without_a_loop_the_error_says_so() -> None:
    step = AsyncSandboxPool().acquire()
    with pytest.raises(RuntimeError, match="no event loop runs"):
        step.send(None)


@each_loop
def test_a_forgotten_lease_is_released(loop: str, launcher: FakeLauncher) -> None:
    async def main() -> None:
        async with fake_pool(launcher) as pool:
            lease: AsyncPooledSandbox | None = await pool.acquire()
            assert repr(lease).startswith("<AsyncPooledSandbox leased pid=")
            with pytest.raises(TypeError, match="copied"):
                copy.copy(lease)
            with pytest.raises(TypeError, match="pickled"):
                pickle.dumps(pool)
            del lease
            gc.collect()
            assert (await pool.stats()).in_use_count == 0

    run_on(loop, main)


@each_loop
def test_a_released_lease_says_so(loop: str, launcher: FakeLauncher) -> None:
    async def main() -> None:
        async with fake_pool(launcher) as pool:
            lease = await pool.acquire()
            lease.release()
            await lease.release()
            assert lease.released
            assert repr(lease) == "<AsyncPooledSandbox released>"
            with pytest.raises(SandboxReleasedError):
                await lease.execute(["/bin/true"])
            with pytest.raises(SandboxReleasedError):
                async with lease:
                    pass

    run_on(loop, main)


@each_loop
def test_a_sandbox_without_a_pool(loop: str) -> None:
    async def main() -> None:
        async with AsyncSandbox(SandboxConfig(timeout_secs=7)) as sandbox:
            assert sandbox.config.timeout_secs == 7
            assert sandbox.isolation.seccomp == "full"
            assert (await sandbox.execute(["/bin/echo", "one"])).stdout == b"one\n"
            assert (await sandbox.shell("echo two", text=True)).stdout == "two\n"
            assert repr(sandbox).startswith("<AsyncSandbox pid=")
        assert sandbox.destroyed
        with pytest.raises(SandboxReleasedError, match="destroyed"):
            await sandbox.execute(["/bin/true"])
        with pytest.raises(SandboxReleasedError, match="destroyed"):
            await sandbox.create()
        with pytest.raises(SandboxReleasedError, match="not created yet"):
            await AsyncSandbox().execute(["/bin/true"])
        other = await AsyncSandbox()
        await other.destroy()

    run_on(loop, main)


def test_acquire_can_be_a_task() -> None:
    async def main() -> None:
        async with AsyncSandboxPool(None, PoolConfig(min_size=2, max_in_use=2)) as pool:
            tasks = [asyncio.create_task(pool.acquire()) for _ in range(2)]
            leases = await asyncio.gather(*tasks)
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(pool.acquire(), 0.05)
            for lease in leases:
                lease.release()
            async with await pool.acquire() as lease:
                assert (await lease.execute(["/bin/true"])).ok

    asyncio.run(main())


def test_a_forgotten_await_is_said() -> None:
    async def main() -> None:
        async with AsyncSandboxPool() as pool:
            acquiring: Any = pool.acquire()
            with pytest.raises(TypeError, match="use `async with`, not `with`"), acquiring:
                pass
            with pytest.raises(AttributeError, match="no 'execute' before it is awaited: use `await` or `async with`"):
                acquiring.execute(["true"])
            async with acquiring as lease:
                assert (await lease.execute(["true"])).ok

    asyncio.run(main())
