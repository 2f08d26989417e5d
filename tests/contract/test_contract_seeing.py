"""Seeing the pool: every eviction has its reason, and what happened to commands and sandboxes is counted."""

from __future__ import annotations

import math
import os
import signal
import time
from contextlib import suppress

import pytest
from fake import FakeLauncher
from pools import OpenPool, assert_balanced, use, wait_idle
from waiting import Call, wait_until

from pysandpool import (
    AcquireTimeoutError,
    Evictions,
    PoolConfig,
    SandboxConfig,
    SandboxCreateError,
    SandboxError,
    SandboxLostError,
    SandboxPool,
)


def assert_evictions(pool: SandboxPool, expected: Evictions) -> None:
    wait_until(lambda: pool.stats().evictions == expected, f"{expected}, not {pool.stats().evictions}")
    assert_balanced(pool.stats())


def test_by_age(launcher: FakeLauncher) -> None:
    with launcher.open(warm=2, max_size=2, max_idle_duration=0.05) as pool:
        assert_evictions(pool, Evictions(age=2))


def test_by_age_when_warm_comes_first(launcher: FakeLauncher) -> None:
    with launcher.open(warm=2, max_size=2, max_idle_duration=0.05) as pool:
        wait_until(lambda: pool.warm(0) == 0 and pool.idle_len() == 0, "too old")
        assert_evictions(pool, Evictions(age=2))


@pytest.mark.parametrize("used", [False, True])
def test_by_capacity(open_pool: OpenPool, used: bool) -> None:
    pool = open_pool(warm=1, max_size=1)
    leases = [pool.acquire() for _ in range(3)]
    for lease in leases:
        if used:
            use(lease)
    for lease in leases:
        lease.release()
        wait_idle(pool, 1)
    assert_evictions(pool, Evictions(capacity=2))


def test_by_capacity_without_an_idle_one(launcher: FakeLauncher) -> None:
    """Nothing idle makes room, so what was released gets no successor."""
    with launcher.open(warm=0, max_size=1) as pool:
        leases = [pool.acquire() for _ in range(3)]
        with launcher.held():
            for lease in leases:
                use(lease)
                lease.release()
            assert_evictions(pool, Evictions(capacity=2))


def test_by_health_check(launcher: FakeLauncher) -> None:
    with launcher.open(warm=0, max_size=1, health_check_interval=1) as pool:
        launcher.health(1)
        with pool.acquire() as lease:
            lease.execute(["/bin/true"])
        assert_evictions(pool, Evictions(health_check=1))


def test_by_failed_recycle(launcher: FakeLauncher) -> None:
    with launcher.open(warm=0, max_size=1) as pool:
        with pool.acquire() as lease:
            use(lease)
            launcher.fail()
        assert_evictions(pool, Evictions(failed_recycle=1))


def test_by_death(real_pool: OpenPool) -> None:
    pool = real_pool(warm=1)
    with pool.acquire() as lease:
        pid = lease.pid
    os.kill(pid, signal.SIGKILL)
    assert_evictions(pool, Evictions(death=1))


def test_by_replacement(launcher: FakeLauncher) -> None:
    with launcher.open(warm=0, max_size=1) as pool:
        while pool.stats().evictions.replaced == 0:  # the janitor may notice the death first
            with pool.acquire() as lease, suppress(SandboxLostError):
                launcher.kill(lease.pid)
                use(lease)
            wait_idle(pool, 1)
        assert pool.stats().evictions == Evictions(replaced=1)
        assert_balanced(pool.stats())


def test_a_replacement_that_fails_is_counted(launcher: FakeLauncher) -> None:
    with launcher.open(warm=1, max_size=1) as pool:
        while pool.stats().create_error_count == 0:  # the janitor may notice the death first
            with pool.acquire() as lease:
                launcher.fail()
                launcher.kill(lease.pid)
                with pytest.raises((SandboxCreateError, SandboxLostError)):
                    use(lease)
                launcher.fail(0)
            wait_idle(pool, 1)
        assert pool.stats().evictions == Evictions()


def test_lost(real_pool: OpenPool) -> None:
    pool = real_pool(warm=1)
    with pool.acquire() as lease:
        use(lease)
        running = Call(lease.execute, ["/bin/sleep", "60"])
        wait_until(lambda: pool.stats().in_use_count == 1, "leased")
        os.kill(lease.pid, signal.SIGKILL)
        with pytest.raises(SandboxLostError):
            running.result()
        with pytest.raises(SandboxLostError):
            lease.execute(["/bin/true"])
    stats = pool.stats()
    assert (stats.lost_count, stats.timeout_count, stats.oom_kill_count) == (1, 0, 0), (
        "one sandbox, however often asked"
    )


def test_timeouts(real_pool: OpenPool) -> None:
    pool = real_pool(warm=1)
    with pool.acquire() as lease:
        assert lease.execute(["/bin/sleep", "60"], timeout=0.01).timed_out
        assert not lease.execute(["/bin/true"]).timed_out
        assert lease.execute(["/bin/sleep", "60"], timeout=0.01).timed_out
    stats = pool.stats()
    assert (stats.lost_count, stats.timeout_count, stats.oom_kill_count) == (0, 2, 0)


def test_oom_kills(real_pool: OpenPool) -> None:
    pool = real_pool(SandboxConfig(memory_limit_mb=32), warm=1)
    fill = "x = []\nfor _ in range(8):\n import os\n if os.fork() == 0: x.append(bytearray(b'x' * 12_000_000))\n"
    with pool.acquire() as lease:
        result = lease.execute(["python3", "-c", fill + "import time\ntime.sleep(60)"], timeout=30)
    assert result.oom_killed, result
    stats = pool.stats()
    assert (stats.lost_count, stats.timeout_count, stats.oom_kill_count) == (0, 0, 1)


def test_a_command_that_its_caller_gives_up_is_neither(real_pool: OpenPool) -> None:
    pool = real_pool(warm=1)
    with pool.acquire() as lease:
        running = Call(lease.execute, ["/bin/sleep", "60"])
        wait_until(lambda: not running.done, "it runs")
        lease.release()
        with suppress(SandboxLostError), pytest.raises(Exception, match="released"):
            running.result()
    stats = pool.stats()
    assert (stats.lost_count, stats.timeout_count, stats.oom_kill_count) == (0, 0, 0)


def test_latencies(real_pool: OpenPool) -> None:
    start = time.monotonic()  # the first sandbox is created when the pool is opened
    pool = real_pool(warm=1, max_size=1)
    for _ in range(5):
        with pool.acquire() as lease:
            use(lease)
    with pool.acquire() as lease, pytest.raises(SandboxError):
        lease.execute(["no-such-command"])
    wait_idle(pool, 1)
    for _ in range(10):
        pool.acquire().release()
    elapsed = time.monotonic() - start
    stats = pool.stats()
    waits = stats.latencies
    assert waits.acquire_wait.count == stats.hit_count + stats.miss_count == 16
    assert waits.create.count == 1 + stats.recycle_count == 7
    assert waits.execute.count == 6
    assert waits.recycle.count == 6
    assert waits.acquire_wait.percentile(50) < 1e-6, "idle: no clock, no wait"
    for histogram in (waits.create, waits.execute, waits.recycle):
        assert 1e-5 < histogram.mean < elapsed
        assert 1e-5 < histogram.percentile(50) <= histogram.percentile(100) <= elapsed * 1.25


def test_waiting_for_a_lease_is_seen(launcher: FakeLauncher) -> None:
    with launcher.open(warm=1, max_size=1, max_in_use=1) as pool:
        lease = pool.acquire()
        waiting = Call(pool.acquire)
        wait_until(lambda: pool.stats().waiting_count == 1, "it waits")
        start = time.monotonic()
        time.sleep(0.05)
        least = time.monotonic() - start
        lease.release()
        waiting.result().release()
        wait = pool.stats().latencies.acquire_wait
        assert wait.count == 2
        assert wait.sum >= least
        assert wait.percentile(100) > 0.04
        with pool.acquire(), pytest.raises(AcquireTimeoutError):
            pool.acquire(timeout=0)
        assert pool.stats().latencies.acquire_wait.count == 3, "one that timed out counts nowhere"


def test_latencies_between_two_snapshots(launcher: FakeLauncher) -> None:
    with launcher.open(warm=1, max_size=1) as pool:
        before = pool.stats()
        assert (before.latencies.create.count, before.latencies.acquire_wait.count) == (1, 0)
        pool.acquire().release()
        after = pool.stats()
        assert (after.latencies.create - before.latencies.create).count == 0
        assert (after.latencies.acquire_wait - before.latencies.acquire_wait).count == 1


def test_bounds() -> None:
    """Rising, the same for all, and in seconds."""
    with SandboxPool(None, PoolConfig(min_size=0)) as pool:
        latencies = pool.stats().latencies
    bounds = [bound for bound, _ in latencies.create.buckets]
    assert bounds == sorted(bounds) == [bound for bound, _ in latencies.recycle.buckets]
    assert (bounds[0], bounds[-1]) == (1e-6, math.inf)
    assert 134 < bounds[-2] < 135
