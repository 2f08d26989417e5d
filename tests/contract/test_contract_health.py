"""Contract, row "health check": every n-th recycle is proved to run before it is handed out."""

from __future__ import annotations

import time

import pytest
from fake import FakeLauncher
from full_tier import refusal
from pools import OpenPool, assert_balanced, use, wait_idle
from waiting import wait_until

from pysandpool import SandboxConfig, SandboxPool


def recycle(pool: SandboxPool, times: int, idle: int = 1) -> None:
    for _ in range(times):
        with pool.acquire() as lease:
            use(lease)
        wait_idle(pool, idle)


@pytest.mark.parametrize(("interval", "checks"), [(None, 0), (0, 0), (1, 7), (2, 3), (3, 2), (8, 0)])
def test_every_nth_recycle_is_checked(open_pool: OpenPool, interval: int | None, checks: int) -> None:
    pool = open_pool(warm=1, max_size=1, health_check_interval=interval)
    recycle(pool, 7)
    stats = pool.stats()
    assert stats.health_check_count == checks
    assert (stats.recycle_count, stats.evict_count) == (7, 0)


def test_unused_returns_do_not_count(open_pool: OpenPool) -> None:
    pool = open_pool(warm=1, max_size=1, health_check_interval=2)
    for _ in range(5):
        recycle(pool, 1)
        for _ in range(3):
            pool.acquire().release()
    assert pool.stats().health_check_count == 2


def test_failed_check_evicts(launcher: FakeLauncher) -> None:
    with launcher.open(warm=0, max_size=1, health_check_interval=3) as pool:
        launcher.health(1)
        pool.acquire().release()
        recycle(pool, 2)
        assert pool.stats().evict_count == 0
        with pool.acquire() as lease:
            use(lease)
        wait_until(lambda: pool.stats().evict_count == 1, "the unhealthy one is evicted")
        stats = pool.stats()
        assert (stats.idle_count, stats.health_check_count) == (0, 1)
        assert_balanced(stats)
        wait_until(lambda: launcher.live == 0, "it is gone")
        launcher.health(0)
        pool.acquire().release()
        recycle(pool, 3)
        stats = pool.stats()
        assert (stats.health_check_count, stats.evict_count) == (2, 1)


def test_unhealthy_entry_is_replaced_up_to_min_size(launcher: FakeLauncher) -> None:
    with launcher.open(min_size=1, max_size=1, health_check_interval=1) as pool:
        launcher.health(3)
        with pool.acquire() as lease:
            use(lease)
        wait_until(lambda: pool.stats().evict_count >= 1, "evicted")
        launcher.health(0)
        wait_idle(pool, 1)
        assert_balanced(pool.stats())


def test_attempts_count(launcher: FakeLauncher) -> None:
    """The n-th recycle is the n-th attempt, whether the ones before succeeded or not."""
    with launcher.open(warm=0, max_size=1, health_check_interval=2) as pool:
        with pool.acquire() as lease:
            use(lease)
            launcher.fail(stage="clone")
        wait_until(lambda: pool.stats().evict_count == 1, "the first attempt failed")
        pool.acquire().release()
        recycle(pool, 1)
        assert pool.stats().health_check_count == 1


def test_checked_entry_stays_unused_and_clean(real_pool: OpenPool) -> None:
    pool = real_pool(SandboxConfig(env_vars={"A": "b"}), warm=1, max_size=1, health_check_interval=1)
    recycle(pool, 2)
    with pool.acquire() as lease:
        pid = lease.pid
    with pool.acquire() as lease:
        assert lease.pid == pid
        places = ["."] if refusal() else [".", "/dev/shm"]  # the Landlock tier has no /dev/shm
        assert lease.execute(["find", *places]).check().stdout.decode().split() == places
    assert pool.stats().health_check_count >= 2


def test_check_really_runs_inside(real_pool: OpenPool) -> None:
    """Without room for one more process the health command cannot start; without the check nobody would notice."""
    broken = SandboxConfig(env_vars={"BIG": "x" * (3 << 20)})
    unchecked = real_pool(broken, warm=1, max_size=1)
    with unchecked.acquire() as lease:
        pass
    pool = real_pool(broken, warm=0, max_size=1, health_check_interval=1)
    with pool.acquire() as lease:
        lease.execute(["/bin/true"], env={"BIG": None}).check()
    wait_until(lambda: pool.stats().evict_count == 1, "what could not run the command is evicted", 20)
    assert (pool.stats().health_check_count, pool.stats().idle_count) == (1, 0)
    with unchecked.acquire() as lease:
        lease.execute(["/bin/true"], env={"BIG": None}).check()
    wait_idle(unchecked, 1)
    assert unchecked.stats().evict_count == 0


@pytest.mark.parametrize(
    "command",
    [
        ("/bin/sleep", "60"),
        ("/no/such/command",),
        ("/bin/sh", "-c", "exit 3"),
        ("/bin/sh", "-c", "kill -9 $$"),
        ("/etc/passwd",),
    ],
)
def test_command_that_hangs_fails_or_does_not_exist(real_pool: OpenPool, command: tuple[str, ...]) -> None:
    """Each evicts, and an acquire that had taken the place over creates one itself."""
    pool = real_pool(
        warm=1, max_size=1, health_check_interval=1, health_check_command=command, health_check_timeout=0.3
    )
    with pool.acquire() as lease:
        use(lease)
    with pool.acquire() as lease:
        lease.execute(["/bin/true"]).check()
    wait_until(lambda: pool.stats().evict_count >= 1, "evicted")
    assert pool.settle(20)
    assert pool.stats().health_check_count == pool.stats().evict_count >= 1
    assert_balanced(pool.stats())


def test_own_command_decides(real_pool: OpenPool) -> None:
    """By its words and with the pool's environment; found over PATH, as execute does."""
    command = ("sh", "-c", '[ "$WORD" = "a b" ] && [ "$1" = "c  d" ]', "sh", "c  d")
    pool = real_pool(
        SandboxConfig(env_vars={"WORD": "a b"}),
        warm=1,
        max_size=1,
        health_check_interval=1,
        health_check_command=command,
    )
    recycle(pool, 3)
    assert (pool.stats().health_check_count, pool.stats().evict_count) == (3, 0)


def test_hanging_check_has_its_timeout(launcher: FakeLauncher) -> None:
    """A waiter is not kept longer than that."""
    with launcher.open(warm=1, max_size=1, health_check_interval=1, health_check_timeout=0.1) as pool:
        with pool.acquire() as lease:
            use(lease)
            launcher.mute(True)
        start = time.monotonic()
        pool.acquire().release()
        assert 0.1 <= time.monotonic() - start < 5
        stats = pool.stats()
        assert (stats.evict_count, stats.miss_count, stats.health_check_count) == (1, 0, 1)
        launcher.mute(False)


def test_a_large_environment_is_no_reason_to_fail(real_pool: OpenPool) -> None:
    """It does not fit the socket at once: the check's own time is there to send it."""
    config = SandboxConfig(env_vars={f"V{n}": "x" * 100 * 1024 for n in range(8)})
    pool = real_pool(config, warm=1, max_size=1, health_check_interval=1)
    recycle(pool, 5)
    stats = pool.stats()
    assert (stats.health_check_count, stats.recycle_count, stats.evict_count) == (5, 5, 0)
