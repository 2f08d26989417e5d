"""Contract, row "acquire, max_in_use reached": FIFO-fair waiting, its timeout, and the hand-over."""

from __future__ import annotations

import errno
import os
import random
import signal
import threading
import time

import pytest
from fake import FakeLauncher
from pools import OpenPool, assert_balanced, use, wait_idle
from waiting import Call, wait_until

from pysandpool import AcquireTimeoutError, PooledSandbox, PoolError, SandboxCreateError, SandboxPool


def wait_waiting(pool: SandboxPool, count: int) -> None:
    wait_until(lambda: pool.stats().waiting_count == count, f"{count} waiting")


def test_timeout_zero_does_not_wait(open_pool: OpenPool) -> None:
    pool = open_pool(warm=1, max_size=2, max_in_use=1)
    with pool.acquire():
        start = time.monotonic()
        with pytest.raises(AcquireTimeoutError) as raised:
            pool.acquire(timeout=0)
        assert time.monotonic() - start < 1
    assert isinstance(raised.value, TimeoutError)
    assert isinstance(raised.value, PoolError)
    pool.acquire(timeout=0).release()


def test_timeout_is_kept(open_pool: OpenPool) -> None:
    pool = open_pool(warm=1, max_size=2, max_in_use=1)
    with pool.acquire():
        start = time.monotonic()
        with pytest.raises(AcquireTimeoutError):
            pool.acquire(timeout=0.3)
        assert 0.3 <= time.monotonic() - start < 3


def test_acquire_that_timed_out_counts_nowhere(open_pool: OpenPool) -> None:
    pool = open_pool(warm=1, max_size=2, max_in_use=1)
    with pool.acquire():
        before = pool.stats()
        for timeout in (0, 0.01):
            with pytest.raises(AcquireTimeoutError):
                pool.acquire(timeout=timeout)
        assert pool.stats() == before


def test_bounds_leases_of_both_kinds(open_pool: OpenPool) -> None:
    """Hits and misses count alike."""
    pool = open_pool(warm=2, max_size=2, max_in_use=3)
    leases = [pool.acquire() for _ in range(3)]
    assert (pool.stats().hit_count, pool.stats().miss_count) == (2, 1)
    with pytest.raises(AcquireTimeoutError):
        pool.acquire(timeout=0)
    leases.pop().release()
    pool.acquire(timeout=0).release()


def test_release_wakes_a_waiter(open_pool: OpenPool) -> None:
    pool = open_pool(warm=1, max_size=2, max_in_use=1)
    lease = pool.acquire()
    waiter = Call(pool.acquire)
    wait_waiting(pool, 1)
    assert not waiter.done
    lease.release()
    waiter.result().release()
    assert pool.stats().hit_count == 2


def test_release_of_a_used_sandbox_wakes_a_waiter(open_pool: OpenPool) -> None:
    pool = open_pool(warm=1, max_size=2, max_in_use=1)
    lease = pool.acquire()
    used = lease.pid
    use(lease)
    waiter = Call(pool.acquire)
    wait_waiting(pool, 1)
    lease.release()
    with waiter.result() as other:
        assert other.pid != used


@pytest.mark.parametrize("used", [False, True])
def test_fifo(open_pool: OpenPool, used: bool) -> None:
    pool = open_pool(warm=2, max_size=2, max_in_use=2)
    held = [pool.acquire(), pool.acquire()]
    order: list[int] = []

    def wait(number: int) -> PooledSandbox:
        lease = pool.acquire(timeout=30)
        order.append(number)
        return lease

    calls = []
    for number in range(16):
        calls.append(Call(wait, number))
        wait_waiting(pool, number + 1)
    current = held.pop()
    for number, call in enumerate(calls):
        if used:
            use(current)
        current.release()
        current = call.result()
        assert order == list(range(number + 1))
        assert_balanced(pool.stats())
    current.release()
    assert pool.stats().waiting_count == 0


def test_nobody_overtakes_a_waiter(open_pool: OpenPool) -> None:
    pool = open_pool(warm=2, max_size=2, max_in_use=1)
    for _ in range(30):
        lease = pool.acquire()
        waiter = Call(pool.acquire)
        wait_waiting(pool, 1)
        lease.release()
        with pytest.raises(AcquireTimeoutError):
            pool.acquire(timeout=0)
        waiter.result().release()


def test_waiter_that_timed_out_is_passed_over(open_pool: OpenPool) -> None:
    pool = open_pool(warm=1, max_size=2, max_in_use=1)
    lease = pool.acquire()
    impatient = Call(pool.acquire, timeout=0.1)
    wait_waiting(pool, 1)
    patient = Call(pool.acquire, timeout=30)
    wait_waiting(pool, 2)
    with pytest.raises(AcquireTimeoutError):
        impatient.result()
    assert pool.stats().waiting_count == 1
    lease.release()
    patient.result().release()


def test_waiter_that_times_out_never_swallows_a_sandbox(launcher: FakeLauncher) -> None:
    """Release and time-out meet: the waiter has the sandbox or an error, and the bound is whole afterwards."""
    chance = random.Random(1)
    outcomes = set()
    with launcher.open(warm=1, max_size=1, max_in_use=1) as pool:

        def try_once() -> str:
            try:
                pool.acquire(timeout=0.002).release()
            except AcquireTimeoutError:
                return "timed out"
            return "acquired"

        for _ in range(400):
            lease = pool.acquire(timeout=5)
            waiter = Call(try_once)
            time.sleep(chance.uniform(0.001, 0.003))  # the race is what is tested
            lease.release()
            outcomes.add(waiter.result())
            pool.acquire(timeout=5).release()
            assert pool.stats().in_use_count == 0
            assert_balanced(pool.stats())
    assert outcomes == {"timed out", "acquired"}


def test_interrupted_waiter_is_passed_over(open_pool: OpenPool) -> None:
    pool = open_pool(warm=1, max_size=1, max_in_use=1)
    lease = pool.acquire()

    def interrupt() -> None:
        wait_waiting(pool, 1)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        pool.acquire()
    assert pool.stats().waiting_count == 0
    lease.release()
    pool.acquire(timeout=5).release()


def test_failed_creation_passes_its_place_on(launcher: FakeLauncher) -> None:
    with launcher.open(warm=0, max_size=2, max_in_use=1) as pool:
        launcher.fail(stage="clone", err=errno.EAGAIN)
        with launcher.held():
            first = Call(pool.acquire)
            wait_until(lambda: pool.stats().miss_count == 1, "the first creates")
            second = Call(pool.acquire, timeout=30)
            wait_waiting(pool, 1)
        with pytest.raises(SandboxCreateError):
            first.result()
        with second.result():
            assert pool.stats().in_use_count == 1
        assert pool.stats().miss_count == 2


def test_bound_holds_under_load(open_pool: OpenPool) -> None:
    pool = open_pool(warm=2, max_size=3, max_in_use=3)
    out = 0
    most = 0
    lock = threading.Lock()

    def work(number: int) -> None:
        nonlocal out, most
        for turn in range(40):
            with pool.acquire(timeout=60) as lease:
                with lock:
                    out += 1
                    most = max(most, out)
                if (turn + number) % 4 == 0:
                    use(lease)
                with lock:
                    out -= 1

    for call in [Call(work, number) for number in range(8)]:
        call.result(60)
    assert 2 <= most <= 3  # two may be the most that the scheduler lets run at a time on a busy machine
    stats = pool.stats()
    assert (stats.in_use_count, stats.waiting_count) == (0, 0)
    assert stats.hit_count + stats.miss_count == 8 * 40


def test_waiter_takes_an_idle_entry_before_one_is_evicted(launcher: FakeLauncher) -> None:
    """The place of the entry that it takes has room for the fresh sandbox of the lease that is released."""
    with launcher.open(min_size=2, max_size=2, max_in_use=2) as pool:
        leases = [pool.acquire() for _ in range(2)]
        for lease in leases:
            use(lease)
        wait_idle(pool, 2)
        waiting = [Call(pool.acquire) for _ in range(2)]
        wait_waiting(pool, 2)
        for lease in leases:
            lease.release()
        again = [call.result() for call in waiting]
        wait_idle(pool, 2)
        stats = pool.stats()
        assert (stats.created_count, stats.recycle_count, stats.evict_count) == (4, 2, 0)
        assert_balanced(stats)
        del again
