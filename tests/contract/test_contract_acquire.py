"""Contract, rows "acquire, idle entry" and "acquire, empty": order, counting, failure, interruption."""

from __future__ import annotations

import errno
import os
import signal
import threading

import pytest
from fake import FakeLauncher
from pools import OpenPool, assert_balanced, use, wait_idle
from waiting import Call, wait_until

from pysandpool import SandboxCreateError, SandboxPool


def counts(pool: SandboxPool) -> tuple[int, int, int, int]:
    stats = pool.stats()
    assert_balanced(stats)
    return stats.hit_count, stats.miss_count, stats.in_use_count, stats.idle_count


def test_hit_and_miss_are_counted(open_pool: OpenPool) -> None:
    pool = open_pool(warm=1, max_size=4)
    assert counts(pool) == (0, 0, 0, 1)
    first = pool.acquire()
    assert counts(pool) == (1, 0, 1, 0)
    second = pool.acquire()
    assert counts(pool) == (1, 1, 2, 0)
    first.release()
    assert counts(pool) == (1, 1, 1, 1)
    second.release()
    assert counts(pool) == (1, 1, 0, 2)


def test_lifo(open_pool: OpenPool) -> None:
    pool = open_pool(warm=4, max_size=4)
    leases = [pool.acquire() for _ in range(4)]
    pids = [lease.pid for lease in leases]
    for lease in leases:
        lease.release()
    again = [pool.acquire() for _ in range(4)]
    assert [lease.pid for lease in again] == pids[::-1]


def test_lifo_counts_from_when_an_entry_became_ready(launcher: FakeLauncher) -> None:
    with launcher.open(warm=1, max_size=4) as pool:
        with pool.acquire() as lease:
            oldest = lease.pid
        assert pool.warm(2) == 1
        with pool.acquire() as newest:
            assert newest.pid != oldest
            with pool.acquire() as other:
                assert other.pid == oldest


def test_refreshed_entry_is_the_newest(open_pool: OpenPool) -> None:
    pool = open_pool(warm=2, max_size=2)
    first, second = pool.acquire(), pool.acquire()
    unused = second.pid
    second.release()
    use(first)
    first.release()
    wait_idle(pool, 2)
    fresh, old = pool.acquire(), pool.acquire()
    assert old.pid == unused
    assert fresh.pid != unused


def test_creates_beyond_max_size(open_pool: OpenPool) -> None:
    """max_size bounds what is idle, not what is in use."""
    pool = open_pool(warm=0, max_size=2)
    leases = [pool.acquire() for _ in range(6)]
    assert len({lease.pid for lease in leases}) == 6
    assert counts(pool) == (0, 6, 6, 0)
    for lease in leases:
        lease.release()
    assert counts(pool) == (0, 6, 0, 2)
    assert pool.stats().evict_count == 4


def test_failed_creation_is_rolled_back(launcher: FakeLauncher) -> None:
    with launcher.open(warm=0, max_size=2) as pool:
        launcher.fail(stage="landlock", err=errno.EINVAL)
        with pytest.raises(SandboxCreateError) as raised:
            pool.acquire()
        assert (raised.value.stage, raised.value.errno) == ("landlock", errno.EINVAL)
        assert counts(pool) == (0, 1, 0, 0)
        assert pool.stats().create_error_count == 1
        assert launcher.live == 0
        with pool.acquire():
            assert counts(pool) == (0, 2, 1, 0)


@pytest.mark.parametrize("stage", ["host_socket", "clone", "mount_proc", "seccomp", "ready"])
@pytest.mark.parametrize("err", [errno.EMFILE, errno.ENOSPC, errno.EAGAIN, errno.ETIMEDOUT])
def test_creation_error_is_passed_on_unchanged(launcher: FakeLauncher, stage: str, err: int) -> None:
    with launcher.open(warm=0, max_size=2) as pool:
        launcher.fail(3, stage=stage, err=err)
        for misses in (1, 2, 3):
            with pytest.raises(SandboxCreateError) as raised:
                pool.acquire()
            assert (raised.value.stage, raised.value.errno) == (stage, err)
            assert counts(pool) == (0, misses, 0, 0)


def test_failures_of_many_threads_are_each_ones_own(launcher: FakeLauncher) -> None:
    with launcher.open(warm=0, max_size=8) as pool:
        launcher.delay(0.02)
        launcher.fail(7, stage="clone", err=errno.EAGAIN)
        calls = [Call(pool.acquire) for _ in range(20)]
        leases, errors = [], []
        for call in calls:
            try:
                leases.append(call.result())
            except SandboxCreateError as error:
                errors.append(error.errno)
        assert errors == [errno.EAGAIN] * 7
        assert counts(pool) == (0, 20, 13, 0)
        assert launcher.live == 13
        leases.clear()


def test_creations_of_several_acquires_overlap(launcher: FakeLauncher) -> None:
    with launcher.open(warm=0, max_size=8) as pool:
        with launcher.held():
            calls = [Call(pool.acquire) for _ in range(6)]
            wait_until(lambda: pool.stats().in_use_count == 6, "six creations at once")
            assert not any(call.done for call in calls)
            assert_balanced(pool.stats())
        assert len({call.result().pid for call in calls}) == 6


def test_slow_creation_stops_neither_hits_nor_releases(launcher: FakeLauncher) -> None:
    with launcher.open(warm=2, max_size=8) as pool:
        taken = [pool.acquire(), pool.acquire()]
        with launcher.held():
            slow = Call(pool.acquire)
            wait_until(lambda: pool.stats().miss_count == 1, "a creation under way")
            taken.pop().release()
            with pool.acquire():
                assert pool.stats().hit_count == 3
            assert not slow.done
        slow.result().release()
        assert pool.stats().miss_count == 1


def test_interrupted_acquire_leaves_the_pool_in_order(launcher: FakeLauncher) -> None:
    with launcher.open(warm=0, max_size=2) as pool:
        with launcher.held():

            def interrupt() -> None:
                wait_until(lambda: pool.stats().miss_count == 1, "a creation under way")
                os.kill(os.getpid(), signal.SIGINT)

            threading.Thread(target=interrupt).start()
            with pytest.raises(KeyboardInterrupt):
                pool.acquire()
            assert pool.stats().in_use_count == 0
        assert_balanced(pool.stats())
        wait_until(lambda: launcher.live == pool.stats().idle_count, "what was made is idle or gone")
        with pool.acquire() as lease:
            assert lease.pid > 0
        assert pool.stats().in_use_count == 0


def test_signal_that_does_not_raise_does_not_end_an_acquire(launcher: FakeLauncher) -> None:
    seen = threading.Event()
    old = signal.signal(signal.SIGUSR1, lambda *_: seen.set())
    try:
        with launcher.open(warm=0, max_size=2) as pool, launcher.held():

            def poke() -> None:
                wait_until(lambda: pool.stats().miss_count == 1, "a creation under way")
                os.kill(os.getpid(), signal.SIGUSR1)
                assert seen.wait(10), "the handler runs during the wait"
                launcher.let_go()

            poker = Call(poke)
            with pool.acquire() as lease:
                assert lease.pid > 0
            poker.result()
    finally:
        signal.signal(signal.SIGUSR1, old)


def test_acquire_arguments() -> None:
    launcher = FakeLauncher()
    with launcher.open(warm=1, max_size=2) as pool:
        for wrong in (-1, -0.001, float("nan")):
            with pytest.raises(ValueError, match="timeout"):
                pool.acquire(timeout=wrong)
        with pytest.raises(TypeError):
            pool.acquire(timeout="soon")  # type: ignore[arg-type]
        assert counts(pool) == (0, 0, 0, 1)
        with pool.acquire(timeout=0):
            assert counts(pool) == (1, 0, 1, 0)
    launcher.close()


def test_without_max_in_use_acquire_never_waits(open_pool: OpenPool) -> None:
    pool = open_pool(warm=0, max_size=1)
    leases = [pool.acquire(timeout=0) for _ in range(4)]
    assert len({lease.pid for lease in leases}) == 4
