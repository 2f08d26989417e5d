"""Contract, rows "release" and "release at capacity": exactly once, never blocking; what becomes of the sandbox."""

from __future__ import annotations

import errno
import gc
import time
from collections.abc import Callable

import pytest
from eyes import alive, identity, status_field
from fake import FakeLauncher
from full_tier import refusal
from pools import OpenPool, assert_balanced, use, wait_idle
from waiting import Call, wait_until

from pysandpool import PooledSandbox, SandboxCreateError, SandboxPool, SandboxReleasedError


def by_with(pool: SandboxPool) -> None:
    with pool.acquire():
        assert pool.stats().in_use_count == 1


def by_with_and_error(pool: SandboxPool) -> None:
    with pytest.raises(ZeroDivisionError), pool.acquire():
        raise ZeroDivisionError


def by_call(pool: SandboxPool) -> None:
    pool.acquire().release()


def by_with_and_call(pool: SandboxPool) -> None:
    with pool.acquire() as lease:
        lease.release()


def by_garbage_collection(pool: SandboxPool) -> None:
    lease = pool.acquire()
    assert pool.stats().in_use_count == 1
    del lease
    gc.collect()


def by_garbage_collection_of_a_cycle(pool: SandboxPool) -> None:
    cycle: list[object] = [pool.acquire()]
    cycle.append(cycle)
    del cycle
    gc.collect()


WAYS = [
    by_with,
    by_with_and_error,
    by_call,
    by_with_and_call,
    by_garbage_collection,
    by_garbage_collection_of_a_cycle,
]


@pytest.mark.parametrize("way", WAYS)
def test_each_way_releases_once(open_pool: OpenPool, way: Callable[[SandboxPool], None]) -> None:
    pool = open_pool(warm=1, max_size=2)
    for turn in (1, 2):
        way(pool)
        stats = pool.stats()
        assert (stats.in_use_count, stats.idle_count, stats.hit_count) == (0, 1, turn)
        assert_balanced(stats)


def test_second_release_changes_nothing(open_pool: OpenPool) -> None:
    pool = open_pool(warm=2, max_size=2)
    lease = pool.acquire()
    assert not lease.released
    lease.release()
    after = pool.stats()
    lease.release()
    assert lease.released
    assert pool.stats() == after


def test_old_handle_does_not_touch_the_next_lease(open_pool: OpenPool) -> None:
    pool = open_pool(warm=1, max_size=1)
    old = pool.acquire()
    pid = old.pid
    old.release()
    new = pool.acquire()
    assert new.pid == pid
    old.release()
    del old
    gc.collect()
    assert pool.stats().in_use_count == 1
    assert new.pid == pid
    assert not new.released


def test_released_by_many_threads_at_once(open_pool: OpenPool) -> None:
    pool = open_pool(warm=1, max_size=4)
    for _ in range(50):
        with pool.acquire():
            lease = pool.acquire()
            for call in [Call(lease.release) for _ in range(4)]:
                call.result()
            assert pool.stats().in_use_count == 1
    assert_balanced(pool.stats())


def test_use_after_release(open_pool: OpenPool) -> None:
    pool = open_pool(warm=1, max_size=1)
    with pool.acquire() as lease:
        pass
    with pytest.raises(SandboxReleasedError):
        lease.execute(["/bin/true"])
    with pytest.raises(SandboxReleasedError):
        lease.pid  # noqa: B018
    assert lease.released
    assert "released" in repr(lease)


def test_release_never_blocks(launcher: FakeLauncher) -> None:
    """No fresh sandbox can be made, and still each release returns, and hits go on."""
    with launcher.open(warm=1, max_size=8) as pool:
        leases = [pool.acquire() for _ in range(5)]
        for lease in leases[:4]:
            use(lease)
        with launcher.held():
            start = time.monotonic()
            while leases[1:]:
                leases.pop(0).release()
            leases.pop().release()
            gc.collect()
            assert pool.stats().in_use_count == 0
            assert pool.stats().idle_count == 5
            with pool.acquire():
                assert (pool.stats().hit_count, pool.stats().miss_count) == (2, 4)
            assert time.monotonic() - start < 2
        wait_idle(pool, 5)


def test_unused_goes_straight_back(open_pool: OpenPool) -> None:
    pool = open_pool(warm=1, max_size=1)
    pids = set()
    for _ in range(5):
        with pool.acquire() as lease:
            pids.add(lease.pid)
    stats = pool.stats()
    assert len(pids) == 1
    assert (stats.recycle_count, stats.created_count, stats.evict_count) == (0, 1, 0)


def test_used_is_replaced(open_pool: OpenPool) -> None:
    pool = open_pool(warm=1, max_size=1)
    pids = []
    for turn in range(1, 6):
        with pool.acquire() as lease:
            pids.append(lease.pid)
            use(lease)
        wait_idle(pool, 1)
        stats = pool.stats()
        assert (stats.recycle_count, stats.hit_count, stats.evict_count) == (turn, turn, 0)
        assert_balanced(stats)
    assert all(one != other for one, other in zip(pids, pids[1:]))


def test_used_sandbox_is_gone(real_pool: OpenPool) -> None:
    pool = real_pool(warm=1, max_size=1)
    with pool.acquire() as lease:
        used = lease.pid
        before = identity(used)
        assert status_field(used, "NSpid").split()[-1] == "1" or refusal()
        lease.execute(["/bin/sh", "-c", "echo mine > mine"]).check()
    wait_until(lambda: not alive(used), "the used sandbox is dead")
    with pool.acquire() as lease:
        assert identity(lease.pid) != before
        assert status_field(lease.pid, "NSpid").split()[-1] == "1" or refusal()
        assert lease.execute(["/bin/ls", "-A"]).check().stdout == b""


def test_capacity_evicts_the_oldest(open_pool: OpenPool) -> None:
    pool = open_pool(warm=0, max_size=2)
    leases = [pool.acquire() for _ in range(4)]
    pids = [lease.pid for lease in leases]
    for number, lease in enumerate(leases):
        lease.release()
        assert pool.idle_len() == min(number + 1, 2)
        assert pool.stats().evict_count == max(0, number - 1)
        assert_balanced(pool.stats())
    assert [pool.acquire().pid for _ in range(1)] == pids[3:]
    again = [pool.acquire(), pool.acquire()]
    assert {lease.pid for lease in again} == set(pids[2:])


def test_what_capacity_evicts_ends(launcher: FakeLauncher) -> None:
    with launcher.open(warm=0, max_size=2) as pool:
        for lease in [pool.acquire() for _ in range(6)]:
            lease.release()
        wait_until(lambda: launcher.live == 2, "evicted sandboxes are gone")


def test_used_release_at_capacity_evicts_an_idle_one(launcher: FakeLauncher) -> None:
    with launcher.open(warm=0, max_size=1) as pool:
        unused, used = pool.acquire(), pool.acquire()
        use(used)
        unused.release()
        used.release()
        assert pool.stats().evict_count == 1
        wait_idle(pool, 1)
        wait_until(lambda: launcher.live == 1, "one sandbox left")
        assert_balanced(pool.stats())


def test_capacity_full_of_recycling_entries(launcher: FakeLauncher) -> None:
    """None is IDLE that could go, so the one just released is not refilled."""
    with launcher.open(warm=0, max_size=2) as pool:
        leases = [pool.acquire() for _ in range(4)]
        for lease in leases:
            use(lease)
        with launcher.held():
            for number, lease in enumerate(leases):
                lease.release()
                assert pool.idle_len() == min(number + 1, 2)
                assert pool.stats().evict_count == max(0, number - 1)
        wait_idle(pool, 2)
        wait_until(lambda: launcher.live == 2, "two sandboxes left")
        assert pool.stats().recycle_count == 2


def take_over(pool: SandboxPool, launcher: FakeLauncher, meanwhile: Callable[[], None]) -> Call:
    """Releases a used lease while nothing can be created, and acquires the entry that is being recycled."""
    with launcher.held():
        with pool.acquire() as lease:
            use(lease)
        wait_until(lambda: pool.stats().recycling_count == 1, "recycling")
        assert pool.stats().idle_count == 1
        call = Call(pool.acquire)
        wait_until(lambda: pool.stats().in_use_count == 1, "taken over")
        meanwhile()
        assert not call.done
    return call


def test_take_over_is_a_hit(launcher: FakeLauncher) -> None:
    with launcher.open(warm=1, max_size=1) as pool:

        def meanwhile() -> None:
            stats = pool.stats()
            assert (stats.hit_count, stats.miss_count) == (2, 0)
            assert (stats.idle_count, stats.in_use_count) == (0, 1)
            assert_balanced(stats)

        with take_over(pool, launcher, meanwhile).result() as lease:
            assert lease.pid > 0
            assert_balanced(pool.stats())
        stats = pool.stats()
        assert (stats.hit_count, stats.miss_count, stats.evict_count) == (2, 0, 0)
        assert (stats.hit_ready_count, stats.hit_waited_count) == (1, 1), "the second waited for a fresh sandbox"
        assert stats.recycle_count == 1


def test_take_over_whose_recycling_fails_creates_one(launcher: FakeLauncher) -> None:
    with launcher.open(warm=0, max_size=1) as pool:
        pool.acquire().release()
        launcher.fail(stage="clone", err=errno.EAGAIN)
        with take_over(pool, launcher, lambda: None).result() as lease:
            assert lease.pid > 0
        stats = pool.stats()
        assert (stats.hit_count, stats.miss_count, stats.evict_count) == (2, 1, 1)
        assert (stats.idle_count, stats.in_use_count) == (1, 0)
        assert_balanced(stats)


def test_take_over_that_fails_twice_gives_the_error(launcher: FakeLauncher) -> None:
    with launcher.open(warm=0, max_size=1) as pool:
        pool.acquire().release()
        launcher.fail(2, stage="scratch", err=errno.ENOSPC)
        with pytest.raises(SandboxCreateError) as raised:
            take_over(pool, launcher, lambda: None).result()
        assert (raised.value.stage, raised.value.errno) == ("scratch", errno.ENOSPC)
        stats = pool.stats()
        assert (stats.hit_count, stats.evict_count) == (2, 1)
        assert (stats.idle_count, stats.in_use_count) == (0, 0)
        assert_balanced(stats)


def test_failed_recycling_evicts(launcher: FakeLauncher) -> None:
    with launcher.open(warm=0, max_size=1) as pool:
        with pool.acquire() as lease:
            use(lease)
            launcher.fail(stage="ready", err=errno.EPIPE)
        wait_until(lambda: pool.stats().evict_count == 1, "evicted")
        stats = pool.stats()
        assert (stats.idle_count, stats.create_error_count, stats.recycle_count) == (0, 1, 0)
        assert_balanced(stats)


def test_failed_recycling_is_refilled_up_to_min_size(launcher: FakeLauncher) -> None:
    with launcher.open(min_size=1, max_size=2) as pool:
        with pool.acquire() as lease:
            use(lease)
            launcher.fail(3, stage="clone", err=errno.EAGAIN)
        wait_until(lambda: pool.stats().evict_count == 1, "evicted")
        wait_idle(pool, 1)
        assert_balanced(pool.stats())


def test_release_after_many_uses_gives_the_lease_back_once(real_pool: OpenPool) -> None:
    pool = real_pool(warm=1, max_size=1)
    lease: PooledSandbox = pool.acquire()
    for _ in range(3):
        lease.execute(["/bin/true"]).check()
    lease.release()
    wait_idle(pool, 1)
    assert pool.stats().recycle_count == 1
