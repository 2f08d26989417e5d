"""The zygote dies, at any moment: its sandboxes are gone, and the pool goes on with another zygote."""

from __future__ import annotations

import errno
import functools
import itertools
import os
import random
import shutil
import signal
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest
from eyes import alive, children, reap_orphans, zygote_of
from eyes_linux import children_of, zygotes_below
from fake import FakeLauncher
from host_state import HostState
from pools import OpenPool, assert_balanced, wait_idle
from waiting import Call, wait_until

from pysandpool import (
    PoolConfig,
    PooledSandbox,
    PoolStateError,
    Sandbox,
    SandboxConfig,
    SandboxCreateError,
    SandboxLostError,
    SandboxPool,
)


def kill_zygote(lease: PooledSandbox) -> int:
    zygote = zygote_of(lease)
    os.kill(zygote, signal.SIGKILL)
    return zygote


def run_echo(pool: SandboxPool) -> None:
    with pool.acquire() as lease:
        assert lease.execute(["/bin/echo", "alive"]).check().stdout == b"alive\n"


def survives(pool: SandboxPool) -> bool:
    """Whether a command runs; one that started just before the zygote's last breath is lost."""
    with suppress(SandboxLostError):
        run_echo(pool)
        return True
    return False


def test_idle_entries_are_replaced(real_pool: OpenPool) -> None:
    pool = real_pool(min_size=3, max_size=4, max_idle_duration=None)
    before = HostState()
    with pool.acquire() as lease:
        old = kill_zygote(lease)
    wait_until(lambda: pool.stats().zygote_restart_count == 1, "another zygote serves")
    wait_idle(pool, 3)
    for _ in range(3):
        run_echo(pool)
    stats = pool.stats()
    assert stats.evict_count >= 2, "the lease, if its death was noticed before its return, was recycled instead"
    assert stats.zygote_restart_count == 1
    assert_balanced(stats)
    with pool.acquire() as lease:
        assert zygote_of(lease) != old
    wait_until(lambda: old not in children(), "the dead one is no zombie of ours")
    wait_until(lambda: len(children()) <= len(before.children), "and the first process of the new one neither")


def test_miss_is_served_by_another_zygote(real_pool: OpenPool) -> None:
    """Nobody has noticed the death before: with nothing idle there is nothing that shows it."""
    pool = real_pool(warm=0, max_size=1)
    with pool.acquire() as lease:
        old = kill_zygote(lease)
        wait_until(lambda: not alive(old), "the zygote is dead")
        run_echo(pool)
    assert pool.stats().zygote_restart_count == 1


def test_running_command_is_lost_clearly(real_pool: OpenPool) -> None:
    pool = real_pool(warm=1)
    with pool.acquire() as lease:
        running = Call(lease.execute, ["/bin/sleep", "60"])
        wait_until(lambda: children(lease.pid), "it runs")
        kill_zygote(lease)
        with pytest.raises(SandboxLostError):
            running.result()
        with pytest.raises(SandboxLostError):
            lease.execute(["/bin/true"])
    run_echo(pool)
    assert_balanced(pool.stats())


def test_used_lease_is_lost_and_unused_one_is_replaced(real_pool: OpenPool) -> None:
    pool = real_pool(warm=2)
    with pool.acquire() as used, pool.acquire() as unused:
        used.execute(["/bin/true"]).check()
        old = kill_zygote(used)
        wait_until(lambda: not alive(old), "the zygote is dead")
        with pytest.raises(SandboxLostError):
            used.execute(["/bin/true"])
        assert unused.execute(["/bin/echo", "hello"]).check().stdout == b"hello\n"
    assert_balanced(pool.stats())


def test_waiters_are_served(real_pool: OpenPool) -> None:
    """They wait for max_in_use; the one whose lease was lost gives its place back."""
    pool = real_pool(warm=2, max_size=2, max_in_use=2)
    first, second = pool.acquire(), pool.acquire()
    waiters = [Call(run_echo, pool) for _ in range(4)]
    wait_until(lambda: pool.stats().waiting_count == 4, "all wait")
    running = Call(first.execute, ["/bin/sleep", "60"])
    wait_until(lambda: children(first.pid), "it runs")
    kill_zygote(first)
    with pytest.raises(SandboxLostError):
        running.result()
    first.release()
    second.release()
    for waiter in waiters:
        waiter.result()
    assert pool.stats().zygote_restart_count >= 1
    assert_balanced(pool.stats())


def below_reapers(known: set[int]) -> list[int]:
    """The zygotes of this process's new children."""
    return [pid for reaper in children() - known for pid in zygotes_below(reaper)]


def inits_below(zygotes: list[int]) -> list[int]:
    """The sandboxes of these zygotes; before its HELLO a zygote has none, but may have helpers."""
    found = []
    for child in itertools.chain.from_iterable(map(children_of, zygotes)):
        with suppress(OSError):
            found += [child] if Path(f"/proc/{child}/comm").read_text() == "sandpool-init\n" else []
    return found


def test_killed_while_warming() -> None:
    """A constructor whose zygote dies under it is served by the next one, whenever that is."""
    served = 0
    for turn in range(5):
        before = HostState()
        opening = Call(SandboxPool, None, PoolConfig(min_size=24, max_size=24, max_idle_duration=None))
        zygotes = functools.partial(below_reapers, before.children)
        wait_until(zygotes, "the zygote is there")
        if turn < 4:
            time.sleep(0.005 * turn)
        else:
            wait_until(lambda zygotes=zygotes: inits_below(zygotes()), "a sandbox is there")
        for pid in zygotes():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        # Before its HELLO that is a failed start, which the constructor raises.
        with suppress(SandboxCreateError), opening.result() as pool:
            wait_idle(pool, 24)
            wait_until(lambda pool=pool: survives(pool), "it serves")
            served += 1
        pool = opening = None
        before.assert_restored()
    assert served, "not all of them were killed before their HELLO"


def test_killed_again_and_again_under_load(real_pool: OpenPool) -> None:
    """Four threads go on while the zygote dies 30 times: only what ran is lost, and nobody waits for ever.

    A birth that two zygotes in a row die over is given up, with the reason.
    """
    pool = real_pool(min_size=2, max_size=4, max_in_use=6)
    stop, lost, done = threading.Event(), [0] * 4, [0] * 4

    def work(number: int) -> None:
        while not stop.is_set():
            try:
                run_echo(pool)
                done[number] += 1
            except SandboxLostError:
                lost[number] += 1
            except SandboxCreateError as error:
                assert (error.stage, error.errno) == ("protocol", errno.ECONNRESET), error  # noqa: PT017
                lost[number] += 1

    workers = [Call(work, number) for number in range(4)]
    chance = random.Random(4)
    for _ in range(30):
        time.sleep(chance.uniform(0, 0.04))
        with suppress(AssertionError, OSError, SandboxLostError, SandboxCreateError), pool.acquire() as lease:
            kill_zygote(lease)
    stop.set()
    for worker in workers:
        worker.result(30)
    assert all(done), (done, lost)
    wait_until(lambda: pool.stats().in_use_count == 0, "all are back")
    wait_until(lambda: survives(pool), "it serves")
    stats = pool.stats()
    assert 1 <= stats.zygote_restart_count <= 30
    assert_balanced(stats)


def test_no_spin_when_it_cannot_be_started(real_pool: OpenPool) -> None:
    """What a zygote needs is gone: the reason comes with each acquire, the janitor backs off, and then all is well."""
    shown = Path("/var/tmp") / f"sandpool-test-{os.getpid()}"
    shown.mkdir(mode=0o755)
    try:
        pool = real_pool(SandboxConfig(fs_readonly=(os.fspath(shown),)), min_size=2, warm=2, max_size=2)
        shown.rmdir()
        with pool.acquire() as lease:
            old = kill_zygote(lease)
            wait_until(lambda: not alive(old), "the zygote is dead")
            with pytest.raises(SandboxCreateError) as raised:
                lease.execute(["/bin/true"])
        assert (raised.value.stage, raised.value.errno) == ("bind", errno.ENOENT)
        assert os.fspath(shown) in str(raised.value)
        wait_until(lambda: pool.stats().create_error_count > 3, "the janitor tries")
        before, cpu = pool.stats().create_error_count, time.process_time()
        time.sleep(1)
        assert pool.stats().create_error_count - before < 12
        assert time.process_time() - cpu < 0.5
        assert pool.stats().zygote_restart_count == 0
        with pytest.raises(SandboxCreateError, match="bind"):
            pool.acquire()
        assert pool.stats().in_use_count == 0
        shown.mkdir(mode=0o755)
        wait_until(lambda: pool.idle_len() == 2, "it is back", 20)
        run_echo(pool)
        assert pool.stats().zygote_restart_count == 1
        assert_balanced(pool.stats())
    finally:
        shutil.rmtree(shown, ignore_errors=True)


def test_one_that_dies_at_once_is_not_restarted_in_a_spin(real_pool: OpenPool) -> None:
    """Killed as soon as it makes a sandbox: the pauses grow."""
    pool = real_pool(min_size=1, warm=1, max_size=1, max_idle_duration=None)
    start, stop = time.monotonic(), threading.Event()

    def kill_all() -> None:
        while not stop.is_set():
            with suppress(AssertionError, OSError, SandboxLostError), pool.acquire() as lease:
                kill_zygote(lease)

    killer = Call(kill_all)
    time.sleep(1.5)
    restarts, elapsed = pool.stats().zygote_restart_count, time.monotonic() - start
    stop.set()
    killer.result(30)
    # Pauses of 5 ms, doubling up to 100 ms and a half. Every one at once would be a hundred in a second.
    assert 1 <= restarts <= 5 + elapsed / 0.05
    wait_until(lambda: survives(pool), "it serves")


@pytest.mark.timeout(60)
def test_stopped_zygote_is_killed_and_replaced(real_pool: OpenPool) -> None:
    """10 s without an answer are ETIMEDOUT for that creation; hits never notice, close() does not wait for it."""
    pool, closing, births = (real_pool(warm=1, max_size=1, max_idle_duration=None) for _ in range(3))
    leases = [one.acquire() for one in (pool, closing, births)]
    zygotes = [zygote_of(lease) for lease in leases]
    for zygote in zygotes:
        os.kill(zygote, signal.SIGSTOP)
    started = time.monotonic()
    miss, ended = Call(pool.acquire), Call(closing.acquire)
    warming = Call(births.warm, 1)
    wait_until(lambda: closing.stats().in_use_count == 2, "the miss is under way")
    assert leases[0].execute(["/bin/echo", "still"]).check().stdout == b"still\n"
    begun = time.monotonic()
    closing.close(timeout=0.5)
    assert time.monotonic() - begun < 5
    with pytest.raises(PoolStateError):
        ended.result()
    assert not alive(zygotes[1])
    os.kill(zygotes[2], signal.SIGKILL)  # a stopped process dies of it, too; its births are asked for again
    assert warming.result() == 1
    assert births.stats().create_error_count == 0
    with pytest.raises(SandboxCreateError) as raised:
        miss.result(30)
    assert 10 <= time.monotonic() - started < 25
    assert (raised.value.stage, raised.value.errno) == ("timeout", errno.ETIMEDOUT)
    wait_until(lambda: not alive(zygotes[0]), "the one that did not answer is killed")
    run_echo(pool)
    assert pool.stats().zygote_restart_count == 1
    leases[0].release()
    assert_balanced(pool.stats())


def test_nothing_is_left(real_pool: OpenPool) -> None:
    """As many fds, threads and processes after the seventh zygote as with the first."""
    pool = real_pool(min_size=2, warm=2, max_size=2, max_idle_duration=None)
    run_echo(pool)
    wait_idle(pool, 2)
    before = HostState()
    fds = len(before.fds)
    for turn in range(6):
        with pool.acquire() as lease:
            kill_zygote(lease)
        wait_until(lambda turn=turn: pool.stats().zygote_restart_count == turn + 1, "another one")
        wait_idle(pool, 2)
    reap_orphans()
    wait_until(lambda: len(HostState().fds) <= fds, "descriptors")
    assert len(children()) <= len(before.children)
    assert HostState().threads <= before.threads


def test_single_sandboxes_go_on() -> None:
    config = SandboxConfig(env_vars={"FOR": "zygote deaths"})
    with Sandbox(config) as sandbox:
        zygote = int(Path(f"/proc/{sandbox.pid}/stat").read_text().rpartition(")")[2].split()[1])
        os.kill(zygote, signal.SIGKILL)
        wait_until(lambda: not alive(zygote), "the zygote is dead")
        with Sandbox(config) as next_one:
            assert next_one.execute(["/bin/echo", "x"]).check().stdout == b"x\n"


def test_forked_child_starts_no_zygote(real_pool: OpenPool) -> None:
    """The parent's zygote is dead; a child of the parent that tries gets its refusal and touches nothing."""
    pool = real_pool(warm=0)
    with pool.acquire() as lease:
        old = kill_zygote(lease)
        wait_until(lambda: not alive(old), "the zygote is dead")
    pid = os.fork()
    if pid == 0:
        with suppress(BaseException):
            try:
                pool.acquire()
            except PoolStateError:
                os._exit(0 if not children(os.getpid()) else 2)
        os._exit(1)
    assert os.waitpid(pid, 0)[1] == 0
    run_echo(pool)


# --- the same over the fake: the pool's counts -----------------------------------------------------------


def test_crash_evicts_what_is_idle(launcher: FakeLauncher) -> None:
    with launcher.open(min_size=3, max_size=4) as pool:
        launcher.crash()
        wait_until(lambda: pool.stats().evict_count == 3, "all three are evicted")
        wait_idle(pool, 3)
        stats = pool.stats()
        assert (stats.zygote_restart_count, stats.create_error_count, launcher.live) == (1, 0, 3)
        assert_balanced(stats)


def test_births_under_way_are_asked_for_again(launcher: FakeLauncher) -> None:
    """A miss, a recycle that a waiter has taken over, and a refill, all at once."""
    with launcher.open(warm=1, max_size=4) as pool:
        with pool.acquire() as lease, launcher.held():
            lease.execute(["/bin/true"])
            miss = Call(pool.acquire)
            wait_until(lambda: pool.stats().miss_count == 1, "one miss")
            lease.release()
            takeover = Call(pool.acquire)
            wait_until(lambda: pool.stats().hit_count == 2, "one take-over")
            warming = Call(pool.warm, 2)
            wait_until(lambda: pool.stats().starting_count == 2, "two are started")
            launcher.crash()
        miss.result().release()
        takeover.result().release()
        warming.result()
        wait_until(lambda: pool.stats().recycling_count == pool.stats().starting_count == 0, "all is over")
        assert pool.stats().create_error_count == 0
        assert_balanced(pool.stats())
