"""`SandboxExecutor`: commands as futures, a bounded queue, and no deadlock."""

from __future__ import annotations

import asyncio
import itertools
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import CancelledError, Executor, Future, as_completed
from contextlib import suppress
from typing import Any

import pytest
from fake import FakeLauncher
from pools import assert_balanced
from scripts import run_script
from waiting import Call, wait_until

from pysandpool import (
    AcquireTimeoutError,
    CommandFailedError,
    CommandNotFoundError,
    PoolConfig,
    PoolStateError,
    SandboxExecutor,
    SandboxPool,
)

TRUE = ["/bin/true"]
SLEEP = ["/bin/sleep", "60"]


@pytest.fixture(scope="module")
def pool() -> Iterator[SandboxPool]:
    with SandboxPool(None, PoolConfig(min_size=2, max_size=4, max_in_use=2)) as pool:
        yield pool


def test_futures_have_results(pool: SandboxPool) -> None:
    with SandboxExecutor(pool) as executor:
        assert isinstance(executor, Executor)
        futures = [executor.submit(["echo", str(n)], text=True) for n in range(20)]
        assert sorted(int(future.result().stdout) for future in as_completed(futures)) == list(range(20))
        assert executor.submit(["cat"], input=b"in").result().stdout == b"in"
    assert not pool.closed
    assert pool.stats().in_use_count == 0


def test_exceptions_pass_through_the_future(pool: SandboxPool) -> None:
    with SandboxExecutor(pool) as executor:
        for cmd, options, error in (
            (["no-such-command"], {}, CommandNotFoundError),
            (["false"], {"check": True}, CommandFailedError),
            ("true", {}, TypeError),
            (["true"], {"timeout": -1}, ValueError),
            (["true"], {"nonesuch": 1}, TypeError),
        ):
            wrong: Any = cmd
            assert type(executor.submit(wrong, **options).exception(20)) is error
        assert executor.submit(["sleep", "60"], timeout=0.05).result().timed_out
    with pool.acquire(), pool.acquire(), SandboxExecutor(pool) as executor:
        assert isinstance(executor.submit(["true"], acquire_timeout=0.01).exception(20), AcquireTimeoutError)
    assert_balanced(pool.stats())


def test_map_yields_in_order(pool: SandboxPool) -> None:
    with SandboxExecutor(pool, 2) as executor:
        words = (["sh", "-c", f"sleep 0.{9 - n}; echo {n}"] for n in range(9))
        assert [int(result.stdout) for result in executor.map(words, text=True)] == list(range(9))
        assert list(executor.map([])) == []


def test_map_reads_a_few_ahead(pool: SandboxPool) -> None:
    read = 0

    def endless() -> Iterator[list[str]]:
        nonlocal read
        for n in itertools.count():
            read += 1
            yield ["echo", str(n)]

    with SandboxExecutor(pool, 2, max_queued=3) as executor:
        results = executor.map(endless(), text=True)
        assert [next(results).stdout for _ in range(5)] == [f"{n}\n" for n in range(5)]
        assert read <= 5 + 5


def test_map_ends_with_the_first_exception(pool: SandboxPool) -> None:
    with SandboxExecutor(pool, 1) as executor:
        results = executor.map([["echo"], ["no-such-command"], *[SLEEP] * 5], timeout=1)
        assert next(results).ok
        with pytest.raises(CommandNotFoundError):
            next(results)
        assert list(results) == []


def blocked(executor: SandboxExecutor) -> tuple[Future[Any], Future[Any], Call]:
    """A command that runs, one that is queued, and a submit that waits: the executor has one worker, one place."""
    running, queued = executor.submit(SLEEP, timeout=0.5), executor.submit(TRUE)
    waiting = Call(executor.submit, TRUE)
    wait_until(running.running, "the first runs")
    time.sleep(0.05)
    assert not waiting.done
    return running, queued, waiting


def test_submit_waits_while_the_queue_is_full(pool: SandboxPool) -> None:
    with SandboxExecutor(pool, 1) as executor:
        running, queued, waiting = blocked(executor)
        assert waiting.result().result(20).ok
        assert running.result().timed_out
        assert queued.result().ok


def test_a_cancelled_future_frees_its_place(pool: SandboxPool) -> None:
    with SandboxExecutor(pool, 1) as executor:
        running, queued, waiting = blocked(executor)
        assert queued.cancel()
        assert not running.cancel()
        last = waiting.result(0.3)
        assert not running.done()
        assert last.result(20).ok
        with pytest.raises(CancelledError):
            queued.result()


def test_shutdown_ends_a_submit_that_waits(pool: SandboxPool) -> None:
    executor = SandboxExecutor(pool, 1)
    running, queued, waiting = blocked(executor)
    executor.shutdown(wait=False)
    with pytest.raises(RuntimeError, match="after shutdown"):
        waiting.result()
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.submit(TRUE)
    assert running.result().timed_out
    assert queued.result().ok
    executor.shutdown()


def test_shutdown_cancels_what_is_queued(pool: SandboxPool) -> None:
    executor = SandboxExecutor(pool, 1, max_queued=5)
    futures = [executor.submit(SLEEP, timeout=0.3) for _ in range(5)]
    wait_until(futures[0].running, "the first runs")
    executor.shutdown(cancel_futures=True)
    assert futures[0].result().timed_out
    assert [future.cancelled() for future in futures] == [False, True, True, True, True]
    assert pool.stats().in_use_count == 0


def test_a_callback_may_submit(pool: SandboxPool) -> None:
    """It runs in the thread that would free a place."""
    more: list[Future[Any]] = []
    with SandboxExecutor(pool, 1, max_queued=0) as executor:

        def submit_two(_: Future[Any]) -> None:
            more.extend(executor.submit(TRUE) for _ in range(2))

        executor.submit(TRUE).add_done_callback(submit_two)
        wait_until(lambda: len(more) == 2, "two more")
        assert all(future.result(20).ok for future in more)


def test_more_workers_than_leases(pool: SandboxPool) -> None:
    with pool.acquire() as own, SandboxExecutor(pool, 8) as executor:
        futures = [executor.submit(TRUE) for _ in range(30)]
        assert own.execute(["true"]).ok
        assert all(future.result(30).ok for future in futures)
    assert_balanced(pool.stats())


@pytest.mark.parametrize(
    ("options", "error"),
    [({"max_workers": 0}, ValueError), ({"max_queued": -1}, ValueError), ({"max_workers": "1"}, TypeError)],
)
def test_wrong_arguments_are_refused(pool: SandboxPool, options: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        SandboxExecutor(pool, **options)
    wrong: Any = None
    with pytest.raises(TypeError, match="must be a SandboxPool"):
        SandboxExecutor(wrong)


def test_it_has_as_many_workers_as_there_may_be_leases(pool: SandboxPool, launcher: FakeLauncher) -> None:
    with SandboxExecutor(pool) as executor:
        assert executor._threads._max_workers == 2
    with launcher.open() as other, SandboxExecutor(other) as executor:
        assert executor._threads._max_workers == min(32, (os.cpu_count() or 1) + 4)


def test_a_closed_pool_is_refused(launcher: FakeLauncher) -> None:
    pool = launcher.open(warm=1)
    with SandboxExecutor(pool, 1) as executor:
        pool.close()
        with pytest.raises(PoolStateError):
            executor.submit(TRUE)


def test_close_of_the_pool_ends_the_futures() -> None:
    pool = SandboxPool(None, PoolConfig(min_size=1))
    with SandboxExecutor(pool, 1) as executor:
        futures = [executor.submit(SLEEP) for _ in range(2)]
        wait_until(futures[0].running, "the first runs")
        pool.close()
        for future in futures:
            assert isinstance(future.exception(20), PoolStateError)


def test_asyncio_can_await_it(pool: SandboxPool) -> None:
    async def main() -> bytes:
        with SandboxExecutor(pool) as executor:
            return (await asyncio.wrap_future(executor.submit(["echo", "hello"]))).stdout

    assert asyncio.run(main()) == b"hello\n"


def test_a_forgotten_executor_leaves_no_thread(pool: SandboxPool) -> None:
    before = threading.active_count()
    executor = SandboxExecutor(pool, 2)
    executor.submit(TRUE).result(20)
    del executor
    wait_until(lambda: threading.active_count() <= before, "its threads have ended")


@pytest.mark.namespaces("a program that does not allow the Landlock tier")
def test_an_interrupted_program_ends() -> None:
    """Exit waits for the commands that run, as it does for any executor, and for none that is queued."""
    done = run_script(
        """
import os, signal, threading, time
from pysandpool import PoolConfig, SandboxExecutor, SandboxPool

with SandboxPool(None, PoolConfig(min_size=1)) as pool:
    executor = SandboxExecutor(pool, 1, max_queued=3)
    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
    try:
        for _ in range(10):
            executor.submit(["sleep", "60"])
    except KeyboardInterrupt:
        print("interrupted")
print("closed")
"""
    )
    assert (done.stdout, done.stderr) == ("interrupted\nclosed\n", "")


def test_many_threads_submit_and_cancel(launcher: FakeLauncher) -> None:
    with launcher.open(warm=2, max_size=2, max_in_use=2) as pool, SandboxExecutor(pool, 3, max_queued=2) as executor:

        def work(number: int) -> int:
            done = 0
            for turn in range(40):
                future = executor.submit(TRUE)
                if (turn + number) % 3 == 0:
                    future.cancel()
                with suppress(CancelledError):
                    done += future.result(20).ok
            return done

        calls = [Call(work, number) for number in range(4)]
        assert all(call.result(60) >= 26 for call in calls)
        assert executor._places._taken == 0
        assert pool.stats().in_use_count == 0
        assert_balanced(pool.stats())
