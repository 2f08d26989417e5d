"""`settle()`: waits until the pool has no work of its own."""

from __future__ import annotations

import errno
import os
import signal
import threading
import time

import pytest
from eyes import children
from fake import FakeLauncher
from pools import OpenPool, assert_balanced, use
from waiting import Call, wait_until

from pysandpool import PoolStateError


def test_idle_pool_is_settled(open_pool: OpenPool) -> None:
    pool = open_pool(min_size=1, max_size=2)
    assert pool.settle() is True
    assert pool.settle(timeout=0) is True
    with pytest.raises(ValueError, match="timeout"):
        pool.settle(timeout=-1)
    with pool.acquire():
        assert pool.settle(5) is True, "a lease is no work of the pool's"


def test_waits_for_what_recycles(launcher: FakeLauncher) -> None:
    with launcher.open(warm=2, max_size=2) as pool:
        with launcher.held():
            leases = [pool.acquire(), pool.acquire()]
            for lease in leases:
                use(lease)
                lease.release()
            assert pool.settle(timeout=0) is False
            start = time.monotonic()
            assert pool.settle(timeout=0.2) is False
            assert 0.2 <= time.monotonic() - start < 5
            waiting = Call(pool.settle)
            taken = Call(pool.acquire)  # taken over: it still is the pool's work
            wait_until(lambda: pool.stats().in_use_count == 1, "taken over")
            assert not waiting.done
        assert waiting.result() is True
        stats = pool.stats()
        assert (stats.recycling_count, stats.starting_count, launcher.live) == (0, 0, 2)
        taken.result().release()


def test_waits_for_refills_and_warm(launcher: FakeLauncher) -> None:
    with launcher.open(min_size=2, max_size=4) as pool:
        with launcher.held():
            lease = pool.acquire()
            refilled = Call(pool.settle)
            wait_until(lambda: pool.stats().starting_count == 1, "a refill is under way")
            assert not refilled.done
        assert refilled.result() is True
        assert pool.idle_len() == 2
        lease.release()
        with launcher.held():
            warming = Call(pool.warm, 4)
            wait_until(lambda: pool.stats().starting_count > 0, "warm is under way")
            assert pool.settle(0.05) is False
        warming.result()
        assert pool.settle(5) is True


def test_what_is_to_be_ended_is_ended(real_pool: OpenPool) -> None:
    """Settled, every sandbox that was used is killed: at most its corpse is left."""
    pool = real_pool(warm=2, max_size=2, max_idle_duration=None)
    pids = []
    for _ in range(20):
        with pool.acquire() as lease:
            use(lease)
            pids.append(lease.pid)
    assert pool.settle(20) is True
    assert pool.stats().recycling_count == 0
    wait_until(lambda: not any(os.path.exists(f"/proc/{pid}/exe") for pid in pids), "killed")
    assert_balanced(pool.stats())


def test_close_ends_the_wait(launcher: FakeLauncher) -> None:
    with launcher.open(warm=1, max_size=1) as pool, launcher.held():
        with pool.acquire() as lease:
            use(lease)
        waiting = Call(pool.settle)
        wait_until(lambda: pool.stats().recycling_count == 1, "recycling")
        pool.close()
        with pytest.raises(PoolStateError):
            waiting.result()
    with pytest.raises(PoolStateError):
        pool.settle(0)


def test_cannot_settle_below_min_size(launcher: FakeLauncher) -> None:
    with launcher.open(min_size=1, max_size=1) as pool:
        with pool.acquire() as lease:
            use(lease)
            launcher.fail(2**31, err=errno.EAGAIN)
        assert pool.settle(0.3) is False
        launcher.fail(0)
        assert pool.settle(20) is True
        assert pool.idle_len() == 1


def test_signal_interrupts(launcher: FakeLauncher) -> None:
    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGUSR1, interrupt)
    timer = threading.Timer(0.2, lambda: signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1))
    try:
        with launcher.open(warm=1, max_size=1) as pool, launcher.held():
            with pool.acquire() as lease:
                use(lease)
            timer.start()
            with pytest.raises(KeyboardInterrupt):
                pool.settle()
            launcher.let_go()
            assert pool.settle(20) is True
    finally:
        timer.join()
        signal.signal(signal.SIGUSR1, before)


def test_forked_child_is_refused(launcher: FakeLauncher) -> None:
    with launcher.open(warm=1, max_size=1) as pool:
        pid = os.fork()
        if pid == 0:
            try:
                pool.settle()
            except PoolStateError:
                os._exit(0)
            finally:
                os._exit(1)
        assert os.waitpid(pid, 0)[1] == 0
    assert pid not in children()
