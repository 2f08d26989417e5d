"""Refills are bounded, give way to misses, and do not spin when they fail."""

from __future__ import annotations

import errno
import time

import pytest
from fake import FakeLauncher
from pools import OpenPool, assert_balanced, use, wait_idle
from waiting import Call, wait_until

from pysandpool import SandboxCreateError


@pytest.mark.parametrize("bound", [1, 3, 16])
def test_refills_under_way_are_bounded(launcher: FakeLauncher, bound: int) -> None:
    with launcher.open(min_size=20, max_size=20, refill_concurrency=bound) as pool:
        with launcher.held():
            launcher.crash()
            wait_until(lambda: pool.stats().evict_count == 20, "none is left")
            wait_until(lambda: pool.stats().starting_count == bound, "as many as allowed")
            time.sleep(0.3)
            assert pool.stats().starting_count == bound
        wait_idle(pool, 20)


@pytest.mark.parametrize("bound", [1, 4])
def test_recycles_under_way_are_bounded(launcher: FakeLauncher, bound: int) -> None:
    """Seen by how many sandboxes are made: those that had begun are all that come after the failure begins."""
    with launcher.open(warm=10, max_size=10, refill_concurrency=bound) as pool:
        with launcher.held():
            leases = [pool.acquire() for _ in range(10)]
            for lease in leases:
                use(lease)
                lease.release()
            wait_until(lambda: launcher.live == 0, "the used ones are ended")
            time.sleep(0.1)
            launcher.fail(2**31)
        wait_until(lambda: pool.stats().recycling_count == 0, "all tried")
        assert pool.stats().recycle_count == bound
        assert pool.stats().create_error_count == 10 - bound


@pytest.mark.parametrize("bound", [1, 2, 4])
def test_miss_does_not_wait_behind_queued_refills(launcher: FakeLauncher, bound: int) -> None:
    """The zygote makes one after the other, and 24 are wanted: a miss waits for those that are under way only."""
    with launcher.open(min_size=24, max_size=24, refill_concurrency=bound) as pool:
        launcher.serial(0.05)
        launcher.crash()
        wait_until(lambda: pool.stats().starting_count == bound, "refills are under way")
        wait_until(lambda: pool.stats().idle_count == 0, "nothing is idle")
        before, missed = launcher.created, pool.stats().miss_count
        lease = pool.acquire()
        made = launcher.created - before
        lease.release()
        if pool.stats().miss_count == missed:
            pytest.fail("a refill was faster than the acquire: nothing was shown")
        # Itself, those that were under way, and one that may have come while this thread was waking up.
        assert made <= bound + 2
        launcher.delay(0)
        wait_idle(pool, 24)


def test_failing_refills_back_off_and_recover(launcher: FakeLauncher) -> None:
    with launcher.open(min_size=2, max_size=4) as pool:
        launcher.fail(2**31, err=errno.ENOMEM)
        launcher.crash()
        wait_until(lambda: pool.stats().create_error_count >= 2, "it tries")
        start, before, cpu = time.monotonic(), pool.stats().create_error_count, time.process_time()
        time.sleep(1)
        tries = pool.stats().create_error_count - before
        assert 1 <= tries <= 12, "50 ms, doubling"
        assert time.process_time() - cpu < 0.5 * (time.monotonic() - start)
        with pytest.raises(SandboxCreateError) as raised:
            pool.acquire()
        assert (raised.value.stage, raised.value.errno) == ("clone", errno.ENOMEM)
        launcher.fail(0)
        wait_idle(pool, 2)
        assert_balanced(pool.stats())


@pytest.mark.slow
def test_acquire_that_succeeds_ends_the_back_off(launcher: FakeLauncher) -> None:
    """The longest pause is 7.5 s; a creation that went well shows that it need not be waited for."""
    with launcher.open(min_size=1, max_size=4) as pool:
        launcher.fail(2**31)
        launcher.crash()
        wait_until(lambda: pool.stats().create_error_count >= 6, "the pauses are seconds by now", 20)
        launcher.fail(0)
        start = time.monotonic()
        with pool.acquire():
            wait_until(lambda: pool.idle_len() == 1, "refilled")
        assert time.monotonic() - start < 1.5


def test_entries_that_die_young_are_not_replaced_in_a_spin(launcher: FakeLauncher) -> None:
    """Made, dead, made, dead: every creation goes well, and yet the pauses grow."""
    with launcher.open(min_size=1, max_size=1) as pool:
        end = time.monotonic() + 1.2
        while time.monotonic() < end:
            if pool.stats().idle_count:
                launcher.crash()
            time.sleep(0.001)
        assert 2 <= pool.stats().evict_count <= 10
        wait_idle(pool, 1)
        assert_balanced(pool.stats())


@pytest.mark.parametrize("waiting", [False, True])
def test_failed_recycle_is_evicted_and_min_size_restored(launcher: FakeLauncher, waiting: bool) -> None:
    with launcher.open(min_size=1, max_size=1) as pool:
        with launcher.held():
            lease = pool.acquire()
            use(lease)
            wait_until(lambda: pool.stats().starting_count == 1, "a refill is under way")
            time.sleep(0.05)  # and has been heard of, so that the failure is not its own
            launcher.fail(1, stage="scratch", err=errno.ENOSPC)
            lease.release()
            taken = Call(pool.acquire) if waiting else None
            wait_until(lambda: pool.stats().in_use_count == waiting, "taken over")
            time.sleep(0.05)
        if taken is not None:
            taken.result().release()
        assert pool.settle(10)
        stats = pool.stats()
        assert (stats.create_error_count, stats.idle_count, stats.recycle_count) == (1, 1, 0)
        assert (stats.hit_count, stats.miss_count) == (1 + waiting, 0)
        assert_balanced(stats)


def test_many_recycles_fail_while_all_wait_for_them(launcher: FakeLauncher) -> None:
    """Eight acquires have taken over eight places, and each recycling fails: each creates one itself."""
    with launcher.open(warm=8, max_size=8, refill_concurrency=8) as pool:
        with launcher.held():
            leases = [pool.acquire() for _ in range(8)]
            launcher.fail(8)
            for lease in leases:
                use(lease)
                lease.release()
            wait_until(lambda: launcher.live == 0, "all are to be replaced")
            waiters = [Call(pool.acquire) for _ in range(8)]
            wait_until(lambda: pool.stats().in_use_count == 8, "all are taken over")
            time.sleep(0.1)
        results = [waiter.result() for waiter in waiters]
        stats = pool.stats()
        assert (stats.create_error_count, stats.evict_count, stats.miss_count) == (8, 8, 0)
        for lease in results:
            lease.release()
        assert pool.settle(10)
        assert_balanced(pool.stats())


def test_real_miss_beside_refills(open_pool: OpenPool) -> None:
    pool = open_pool(min_size=12, max_size=12, refill_concurrency=1)
    leases = [pool.acquire() for _ in range(14)]
    assert len({lease.pid for lease in leases}) == 14
    for lease in leases:
        lease.release()
    assert pool.settle(20)
    assert pool.idle_len() == 12
