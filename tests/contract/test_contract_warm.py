"""Contract, rows "warm(target)" and "expiry": how many are kept, and how long; and the death of an idle one."""

from __future__ import annotations

import errno
import os
import signal
import time

import pytest
from eyes import alive
from fake import FakeLauncher
from pools import OpenPool, assert_balanced, idle_pids, wait_idle
from waiting import Call, wait_until

from pysandpool import SandboxCreateError

# The contract gives 0.5 s to evict what is too old and 0.1 s to see a death; a loaded machine gets some more.
EXPIRY_SLACK = 1.5
DEATH_SLACK = 1.0


def test_warm_creates_what_is_missing(open_pool: OpenPool) -> None:
    pool = open_pool(min_size=1, max_size=4)
    assert pool.warm(3) == 2
    assert pool.warm(3) == 0
    assert pool.warm(2) == 0
    assert pool.warm(0) == 0
    stats = pool.stats()
    assert (stats.idle_count, stats.hit_count, stats.miss_count, stats.evict_count) == (3, 0, 0, 0)
    assert_balanced(stats)


def test_warm_caps_at_max_size(open_pool: OpenPool) -> None:
    pool = open_pool(min_size=0, max_size=3)
    assert pool.warm(1000) == 3
    assert pool.idle_len() == 3
    assert pool.warm(2**80) == 0


def test_warm_does_not_count_leases(open_pool: OpenPool) -> None:
    pool = open_pool(warm=1, max_size=2)
    with pool.acquire():
        assert pool.warm(2) == 2
        assert pool.idle_len() == 2


def test_warm_creates_in_parallel(launcher: FakeLauncher) -> None:
    with launcher.open(min_size=0, max_size=12) as pool:
        launcher.delay(0.3)
        start = time.monotonic()
        assert pool.warm(12) == 12
        assert time.monotonic() - start < 0.3 * 12 / 2


def test_warm_from_many_threads(launcher: FakeLauncher) -> None:
    with launcher.open(min_size=0, max_size=8) as pool:
        launcher.delay(0.01)
        made = [call.result() for call in [Call(pool.warm, 6) for _ in range(6)]]
        assert pool.idle_len() == 6
        assert sum(made) == 6
        assert_balanced(pool.stats())


def test_warm_refuses_bad_targets(open_pool: OpenPool) -> None:
    pool = open_pool(min_size=0, max_size=2)
    with pytest.raises(ValueError, match="target"):
        pool.warm(-1)
    for wrong in (1.5, "2", None):
        with pytest.raises(TypeError):
            pool.warm(wrong)  # type: ignore[arg-type]
    assert pool.stats().created_count == 0


def test_failed_warm_gives_the_error_and_keeps_the_count(launcher: FakeLauncher) -> None:
    with launcher.open(min_size=0, max_size=8) as pool:
        launcher.fail(skip=2, stage="mount_proc", err=errno.EPERM)
        with pytest.raises(SandboxCreateError) as raised:
            pool.warm(5)
        assert (raised.value.stage, raised.value.errno) == ("mount_proc", errno.EPERM)
        wait_until(lambda: pool.stats().starting_count == 0, "nothing under way")
        stats = pool.stats()
        assert_balanced(stats)
        assert (stats.hit_count, stats.miss_count, stats.in_use_count) == (0, 0, 0)
        wait_until(lambda: launcher.live == pool.stats().idle_count, "no sandbox is forgotten")
        pool.warm(5)
        assert pool.idle_len() == 5


@pytest.mark.parametrize("target", [0, 2])
def test_warm_first_evicts_what_is_too_old(open_pool: OpenPool, target: int) -> None:
    """In the moment it returns, whatever the janitor has done by then."""
    for _ in range(5):
        pool = open_pool(min_size=0, max_size=4, max_idle_duration=0.05)
        pool.warm(3)
        old = idle_pids(pool)
        time.sleep(0.06)  # it is age that is tested
        pool.warm(target)
        assert pool.stats().evict_count >= 3
        assert_balanced(pool.stats())
        assert not idle_pids(pool) & old


def test_surplus_expires_without_a_call(open_pool: OpenPool) -> None:
    pool = open_pool(min_size=1, max_size=4, max_idle_duration=0.4)
    pool.warm(4)
    start = time.monotonic()
    wait_until(lambda: pool.stats().evict_count >= 4, "all four expired")
    elapsed = time.monotonic() - start
    assert 0.2 < elapsed < 0.4 + EXPIRY_SLACK
    wait_idle(pool, 1)
    stats = pool.stats()
    assert (stats.hit_count, stats.miss_count) == (0, 0)
    assert_balanced(stats)


def test_min_size_is_kept_fresh(open_pool: OpenPool) -> None:
    pool = open_pool(min_size=3, max_size=3, max_idle_duration=0.4)
    old = idle_pids(pool)  # fewer when some expire meanwhile
    assert old
    wait_until(lambda: pool.stats().evict_count >= 3, "the old ones expired", 0.4 + EXPIRY_SLACK)

    def are_fresh() -> bool:
        now = idle_pids(pool)
        return len(now) == 3 and not now & old

    wait_until(are_fresh, "there are three others")
    assert_balanced(pool.stats())


def test_expired_sandboxes_end(real_pool: OpenPool) -> None:
    pool = real_pool(min_size=0, max_size=2, max_idle_duration=0.2)
    pool.warm(2)
    old = idle_pids(pool)
    assert all(alive(pid) for pid in old)
    wait_until(lambda: not any(alive(pid) for pid in old), "expired and gone", 0.2 + EXPIRY_SLACK)
    assert pool.idle_len() == 0


def test_expiry_does_not_touch_leases_and_can_be_off(open_pool: OpenPool) -> None:
    forever = open_pool(min_size=1, max_size=2, max_idle_duration=None)
    pool = open_pool(min_size=1, max_size=2, max_idle_duration=0.2)
    with pool.acquire() as lease:
        pid = lease.pid
        pool.warm(1)
        wait_until(lambda: pool.stats().evict_count >= 2, "idle entries expired twice")
        assert lease.pid == pid
    assert forever.stats().evict_count == 0


def test_age_counts_from_the_return(launcher: FakeLauncher) -> None:
    """An entry that comes and goes all the time is not idle, however old it is."""
    with launcher.open(min_size=0, max_size=1, max_idle_duration=1.0) as pool:
        with pool.acquire() as lease:
            pid = lease.pid
        end = time.monotonic() + 2.5
        while time.monotonic() < end:
            with pool.acquire() as lease:
                assert lease.pid == pid
            time.sleep(0.01)
        assert pool.stats().evict_count == 0


def test_dead_idle_entry_is_evicted_and_replaced(launcher: FakeLauncher) -> None:
    with launcher.open(min_size=2, max_size=4) as pool:
        victim = min(idle_pids(pool))
        assert launcher.kill(victim)
        wait_until(lambda: pool.stats().evict_count == 1, "the death is noticed", DEATH_SLACK)
        wait_idle(pool, 2)
        assert victim not in idle_pids(pool)
        assert_balanced(pool.stats())


def test_dead_idle_entry_above_min_size_is_not_replaced(launcher: FakeLauncher) -> None:
    with launcher.open(min_size=1, max_size=4) as pool:
        pool.warm(3)
        assert launcher.kill(min(idle_pids(pool)))
        wait_until(lambda: pool.stats().evict_count == 1, "the death is noticed", DEATH_SLACK)
        assert pool.idle_len() == 2
        assert pool.stats().created_count == 3


def test_really_dead_idle_entry_is_not_handed_out(real_pool: OpenPool) -> None:
    pool = real_pool(min_size=2, max_size=2)
    for victim in idle_pids(pool):
        os.kill(victim, signal.SIGKILL)
    wait_until(lambda: pool.stats().evict_count == 2, "the deaths are noticed", DEATH_SLACK)
    wait_idle(pool, 2)
    with pool.acquire() as lease:
        assert lease.execute(["/bin/echo", "alive"]).stdout == b"alive\n"
