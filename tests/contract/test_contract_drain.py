"""drain(): no new leases, until none is in use; then every sandbox is a fresh one."""

from __future__ import annotations

import os
import signal
import threading
import time

import pytest
from fake import FakeLauncher
from pools import OpenPool, assert_balanced, idle_pids, use
from waiting import Call, wait_until

from pysandpool import AcquireTimeoutError, PoolStateError, SandboxPool


def test_every_idle_sandbox_is_replaced(open_pool: OpenPool) -> None:
    pool = open_pool(warm=3, min_size=2, max_size=3)
    before = idle_pids(pool)
    assert pool.drain()
    assert pool.settle(20)
    stats = pool.stats()
    assert (stats.evictions.drained, stats.idle_count) == (3, 2)
    assert_balanced(stats)
    assert not idle_pids(pool) & before


@pytest.mark.parametrize("used", [False, True])
def test_it_waits_for_leases_and_acquires_wait_for_it(open_pool: OpenPool, used: bool) -> None:
    pool = open_pool(warm=2, max_size=2)
    lease = pool.acquire()
    old = idle_pids(pool) | {lease.pid}
    if used:
        use(lease)
    drain = Call(pool.drain)
    wait_until(lambda: acquire_waits(pool), "the drain has begun")
    acquire = Call(pool.acquire, 30)
    wait_until(lambda: pool.stats().waiting_count == 1, "the acquire waits")
    assert not drain.done
    assert not acquire.done
    lease.release()
    assert drain.result() is True
    with acquire.result() as fresh:
        assert fresh.pid not in old
    assert_balanced(pool.stats())


def acquire_waits(pool: SandboxPool) -> bool:
    try:
        pool.acquire(timeout=0).release()
    except AcquireTimeoutError as error:
        return "being drained" in str(error)
    return False


def test_after_the_timeout_acquires_go_on(open_pool: OpenPool) -> None:
    pool = open_pool(warm=2, max_size=2)
    with pool.acquire():
        start = time.monotonic()
        assert pool.drain(timeout=0.2) is False
        assert time.monotonic() - start >= 0.2
        assert (pool.stats().evictions.drained, pool.idle_len()) == (1, 0)
        pool.acquire().release()
    assert_balanced(pool.stats())


def test_an_interrupt_ends_it(open_pool: OpenPool) -> None:
    pool = open_pool(warm=1, max_size=1)

    def interrupt() -> None:
        wait_until(lambda: acquire_waits(pool), "the drain has begun")
        os.kill(os.getpid(), signal.SIGINT)

    with pool.acquire():
        thread = threading.Thread(target=interrupt)
        thread.start()
        with pytest.raises(KeyboardInterrupt):
            pool.drain()
        thread.join()
        pool.acquire(timeout=1).release()


def test_close_ends_it(open_pool: OpenPool) -> None:
    pool = open_pool(warm=1, max_size=1)
    lease = pool.acquire()
    drain = Call(pool.drain)
    wait_until(lambda: acquire_waits(pool), "the drain has begun")
    pool.close()
    with pytest.raises(PoolStateError):
        drain.result()
    with pytest.raises(PoolStateError):
        pool.drain()
    lease.release()


def test_a_negative_timeout_is_refused(open_pool: OpenPool) -> None:
    pool = open_pool(warm=1, max_size=1)
    with pytest.raises(ValueError, match="timeout"):
        pool.drain(timeout=-1)
    assert pool.idle_len() == 1


def test_two_drains_at_once(launcher: FakeLauncher) -> None:
    with launcher.open(warm=1, max_size=2) as pool:
        lease = pool.acquire()
        drains = [Call(pool.drain) for _ in range(3)]
        wait_until(lambda: acquire_waits(pool), "the drain has begun")
        lease.release()
        assert [drain.result() for drain in drains] == [True] * 3
        pool.acquire(timeout=5).release()
        assert_balanced(pool.stats())


def test_run_leases_and_releases(open_pool: OpenPool) -> None:
    pool = open_pool(warm=1, max_size=1, max_in_use=1)
    assert pool.run(["/bin/true"]).ok
    with pytest.raises(TypeError):
        pool.run("true")  # type: ignore[call-overload]
    assert pool.stats().in_use_count == 0
    with pool.acquire(timeout=5), pytest.raises(AcquireTimeoutError):
        pool.run(["/bin/true"], acquire_timeout=0)
    assert pool.stats().hit_count + pool.stats().miss_count == 3
