"""Contract, rows "close", "ownership", "cost in the host" and "after os.fork()"."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest
from eyes import alive, children, open_fds, thread_count, zygote_of
from fake import FakeLauncher
from full_tier import head_of_scripts
from host_state import HostState
from pools import OpenPool, use, wait_idle
from scripts import SUPPORT, run_script
from waiting import Call, wait_until

from pysandpool import (
    NamespaceDegradation,
    PoolConfig,
    PooledSandbox,
    PoolStateError,
    Sandbox,
    SandboxConfig,
    SandboxPool,
    SandboxReleasedError,
)


def started(lease: PooledSandbox) -> Callable[[], object]:
    """Whether a command runs in the lease."""
    return lambda: children(lease.pid)


def test_close_is_idempotent(open_pool: OpenPool) -> None:
    pool = open_pool(warm=2, max_size=2)
    assert not pool.closed
    for _ in range(3):
        pool.close()
        assert pool.closed
    for call in [Call(pool.close) for _ in range(4)]:
        call.result()


def test_close_by_many_threads_at_once() -> None:
    before = HostState()
    pool = SandboxPool(None, PoolConfig(min_size=2))
    for call in [Call(pool.close) for _ in range(6)]:
        call.result()
    assert pool.closed
    del pool, call
    before.assert_restored()


CALLS: list[Callable[[SandboxPool], Any]] = [
    lambda pool: pool.acquire(),
    lambda pool: pool.acquire(timeout=0),
    lambda pool: pool.warm(1),
    lambda pool: pool.stats(),
    lambda pool: pool.idle_len(),
]


@pytest.mark.parametrize("call", CALLS, ids=["acquire", "acquire-0", "warm", "stats", "idle_len"])
def test_calls_after_close_raise(open_pool: OpenPool, call: Callable[[SandboxPool], Any]) -> None:
    pool = open_pool(warm=1, max_size=2)
    call(pool)
    pool.close()
    with pytest.raises(PoolStateError, match="closed"):
        call(pool)


def test_what_still_works_after_close(open_pool: OpenPool) -> None:
    pool = open_pool(warm=1, max_size=2)
    lease = pool.acquire()
    pool.close()
    assert pool.pool_config == PoolConfig(min_size=0, max_size=2)
    assert pool.config is not None
    with pytest.raises(PoolStateError):
        lease.execute(["/bin/true"])
    with pytest.raises(PoolStateError):
        lease.pid  # noqa: B018
    lease.release()
    assert lease.released
    lease.release()


def test_leaving_the_block_closes(launcher: FakeLauncher) -> None:
    with launcher.open(warm=2) as pool:
        assert launcher.live == 2
    assert pool.closed
    assert launcher.live == 0


def test_leaving_the_block_by_an_error_closes(launcher: FakeLauncher) -> None:
    with pytest.raises(ZeroDivisionError), launcher.open(warm=2) as pool:
        raise ZeroDivisionError
    assert pool.closed
    assert launcher.live == 0


def test_close_leaves_nothing() -> None:
    before = HostState()
    for _ in range(5):
        with FakeLauncher() as launcher, launcher.open(warm=3, max_size=8) as pool:
            leases = [pool.acquire() for _ in range(5)]
            use(leases[0])
            leases[1].release()
            pool.close()
            assert launcher.live == 0
    del leases, pool
    before.assert_restored()


def test_close_kills_leases_that_are_out() -> None:
    before = HostState()
    pool = SandboxPool(None, PoolConfig(min_size=2))
    leases = [pool.acquire() for _ in range(3)]
    use(leases[0])
    pids = [lease.pid for lease in leases]
    assert all(alive(pid) for pid in pids)
    pool.close()
    assert not any(alive(pid) for pid in pids)
    del pool, leases
    before.assert_restored()


def test_close_ends_a_running_execute(real_pool: OpenPool) -> None:
    pool = real_pool()
    lease = pool.acquire()
    running = Call(lease.execute, ["/bin/sleep", "60"])
    wait_until(started(lease), "the command runs")
    (command,) = children(lease.pid)
    start = time.monotonic()
    pool.close()
    with pytest.raises(PoolStateError):
        running.result()
    assert time.monotonic() - start < 10
    wait_until(lambda: not alive(command), "the command is dead")


def test_close_ends_waiting_acquires(open_pool: OpenPool) -> None:
    pool = open_pool(warm=1, max_size=1, max_in_use=1)
    lease = pool.acquire()
    waiters = [Call(pool.acquire) for _ in range(3)]
    wait_until(lambda: pool.stats().waiting_count == 3, "three waiting")
    pool.close()
    for waiter in waiters:
        with pytest.raises(PoolStateError):
            waiter.result()
    lease.release()


def test_close_ends_creating_acquires_and_warms(launcher: FakeLauncher) -> None:
    pool = launcher.open(warm=0, max_size=4)
    with launcher.held():
        calls = [Call(pool.acquire), Call(pool.warm, 2)]
        wait_until(lambda: pool.stats().in_use_count + pool.stats().starting_count == 3, "creations under way")
        start = time.monotonic()
        pool.close(timeout=0.2)
        assert time.monotonic() - start < 5
        for call in calls:
            with pytest.raises(PoolStateError):
                call.result()
    wait_until(lambda: launcher.live == 0, "nothing is left")


@pytest.mark.parametrize("timeout", [-1, float("nan"), "soon"])
def test_close_refuses_bad_timeouts(launcher: FakeLauncher, timeout: Any) -> None:
    with launcher.open(warm=1) as pool:
        with pytest.raises((ValueError, TypeError)):
            pool.close(timeout=timeout)
        assert not pool.closed
        pool.acquire().release()


def test_close_during_load(open_pool: OpenPool) -> None:
    pool = open_pool(warm=2, max_size=3, max_in_use=3)

    def work() -> int:
        turns = 0
        try:
            while True:
                with pool.acquire(timeout=5) as lease:
                    use(lease)
                turns += 1
        except PoolStateError:
            return turns

    calls = [Call(work) for _ in range(4)]
    wait_until(lambda: pool.stats().hit_count > 30, "some work was done")
    pool.close()
    assert sum(call.result() for call in calls) > 20


# --- ownership -------------------------------------------------------------------------------------------


def test_handle_outlives_the_pool_variable() -> None:
    before = HostState()
    with SandboxPool(None, PoolConfig(min_size=1)).acquire() as lease:
        gc.collect()
        assert lease.execute(["/bin/echo", "still here"]).stdout == b"still here\n"
    del lease
    before.assert_restored()


def test_dropped_pool_is_closed() -> None:
    before = HostState()
    pool = SandboxPool(None, PoolConfig(min_size=2))
    lease = pool.acquire()
    zygote, pid = zygote_of(lease), lease.pid
    del pool
    gc.collect()
    assert alive(zygote)
    assert alive(pid)
    del lease
    gc.collect()
    wait_until(lambda: not alive(zygote), "the zygote is gone")
    wait_until(lambda: not alive(pid), "its sandboxes are gone")
    before.assert_restored()


def test_pool_in_a_cycle_is_closed(launcher: FakeLauncher) -> None:
    pool = launcher.open(warm=2)
    cycle: list[object] = [pool, pool.acquire()]
    cycle.append(cycle)
    del pool
    assert launcher.live == 2
    del cycle
    gc.collect()
    wait_until(lambda: launcher.live == 0, "closed by garbage collection")


EXIT = """
import sys, threading, time
from contextlib import suppress
from eyes import children, zygote_of
from waiting import wait_until
from pysandpool import *

pool = SandboxPool(None, PoolConfig(min_size=2))
idle, busy = pool.acquire(), pool.acquire()
busy.execute(["/bin/true"])
print(zygote_of(idle), idle.pid, busy.pid, flush=True)

def quietly(call, *args):
    with suppress(PoolStateError):
        call(*args)
"""

ENDINGS = {
    "falls off the end": "",
    "sys.exit": "sys.exit(0)",
    "a thread executes": """
threading.Thread(target=quietly, args=(busy.execute, ["/bin/sleep", "60"]), daemon=True).start()
wait_until(lambda: children(busy.pid), "the command runs")
""",
    "a thread waits": """
limited = SandboxPool(None, PoolConfig(max_in_use=1))
only = limited.acquire()
threading.Thread(target=quietly, args=(limited.acquire,), daemon=True).start()
wait_until(lambda: limited.stats().waiting_count == 1, "waiting")
""",
    "the pool hangs on a module": "sys.modules['os'].pool = pool; sys.modules['os'].lease = busy",
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_interpreter_exit_closes(ending: str) -> None:
    done = run_script(EXIT + ENDINGS[ending], timeout=30)
    assert (done.returncode, done.stderr) == (0, "")
    pids = [int(word) for word in done.stdout.split()]
    assert len(pids) == 3
    wait_until(lambda: not any(alive(pid) for pid in pids), "zygote and sandboxes are gone")


def test_killed_host_leaves_nothing() -> None:
    script = head_of_scripts() + EXIT + "time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, cwd=SUPPORT) as host:
        assert host.stdout is not None
        pids = [int(word) for word in host.stdout.readline().split()]
        were_alive = [alive(pid) for pid in pids]
        host.kill()
    assert were_alive == [True] * 3
    wait_until(lambda: not any(alive(pid) for pid in pids), "zygote and sandboxes are gone")


# --- cost in the host ------------------------------------------------------------------------------------


def test_at_most_two_fds_per_sandbox_and_no_thread(real_pool: OpenPool) -> None:
    few = real_pool(warm=1, max_size=64, max_idle_duration=None)
    fds, threads = len(open_fds()), thread_count()
    few.warm(41)
    assert len(open_fds()) - fds <= 2 * 40
    assert len(open_fds()) > fds, "otherwise nothing was counted"
    leases = [few.acquire() for _ in range(51)]
    assert len(open_fds()) - fds <= 2 * 50
    for lease in leases:
        use(lease)
    assert len(open_fds()) - fds <= 2 * 50
    assert thread_count() == threads


def test_limit_of_open_files_is_named() -> None:
    done = run_script(
        """
import errno, os
from contextlib import suppress
from host_state import leave_free_fds
from waiting import wait_until
from pysandpool import *

def room():
    fds = []
    with suppress(OSError):
        while len(fds) < 20:
            fds.append(os.open("/dev/null", os.O_RDONLY))
    for fd in fds:
        os.close(fd)
    return len(fds) == 20

pool = SandboxPool(None, PoolConfig(min_size=1, max_size=4))
leave_free_fds(30)
for _ in range(3):
    leases = []
    try:
        while len(leases) < 1000:
            leases.append(pool.acquire())
    except SandboxCreateError as error:
        assert error.errno == errno.EMFILE, error
        assert "RLIMIT_NOFILE" in str(error) and "RLIMIT_NOFILE" in error.hint, error
    assert 5 < len(leases) < 40, len(leases)
    assert pool.stats().in_use_count == len(leases)
    leases.clear()
    wait_until(room, "what was evicted has ended")
    assert pool.acquire().execute(["/bin/echo", "on"]).stdout == b"on\\n"
print("named")
"""
    )
    assert (done.stdout, done.stderr) == ("named\n", "")


# --- fork ------------------------------------------------------------------------------------------------


def test_forked_child_has_no_pool() -> None:
    done = run_script(
        """
import gc, os, sys
from pysandpool import *

pool = SandboxPool(None, PoolConfig(min_size=0))
pool.warm(2)
lease = pool.acquire()
before = pool.stats()
child = os.fork()
if child == 0:
    for call in (pool.acquire, pool.stats, lambda: pool.warm(1), lambda: lease.execute(["/bin/true"])):
        try:
            call()
        except PoolStateError as error:
            assert str(os.getpid()) in str(error) and str(os.getppid()) in str(error), error
        else:
            print("no error", flush=True)
    with lease:
        pass
    pool.close()
    del lease, pool
    gc.collect()
    with SandboxPool(None, PoolConfig(min_size=1)) as own, own.acquire() as other:
        assert other.execute(["/bin/echo", "own"]).stdout == b"own\\n"
    sys.exit(7)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
assert pool.stats() == before, (pool.stats(), before)
assert lease.execute(["/bin/echo", "parent"]).stdout == b"parent\\n"
lease.release()
with pool.acquire() as lease:
    lease.execute(["/bin/true"]).check()
print("untouched")
"""
    )
    assert (done.stdout, done.stderr) == ("untouched\n", "")


def test_interrupt_of_the_whole_process_group() -> None:
    """Ctrl-C at a terminal reaches every process of the group: the zygote and its sandboxes outlive it."""
    done = run_script(
        """
import os, signal, threading
from eyes import children
from waiting import wait_until
from pysandpool import *

os.setsid()
pool = SandboxPool(None, PoolConfig(min_size=2))
lease, other = pool.acquire(), pool.acquire()
pid = other.pid

def interrupt():
    wait_until(lambda: children(lease.pid), "the command runs")
    os.killpg(0, signal.SIGINT)

threading.Thread(target=interrupt).start()
try:
    lease.execute(["/bin/sleep", "60"])
except KeyboardInterrupt:
    print("interrupted")
assert other.execute(["/bin/echo", "alive"]).stdout == b"alive\\n" and other.pid == pid
lease.release()
with pool.acquire() as lease:
    print(lease.execute(["/bin/echo", "in order"]).stdout.decode(), end="")
"""
    )
    assert (done.stdout, done.stderr) == ("interrupted\nin order\n", "")


def test_other_children_of_the_host_are_not_reaped(real_pool: OpenPool) -> None:
    """The host waits for what is its own, through pidfds: a wait for any child would steal the service's."""
    with subprocess.Popen(["/bin/sh", "-c", "exit 3"]) as own:
        pool = real_pool()
        for _ in range(20):
            with pool.acquire() as lease:
                use(lease)
        pool.close()
        assert os.waitstatus_to_exitcode(os.waitpid(own.pid, 0)[1]) == 3
        own.returncode = 3


def test_sigchld_handler_and_ignored_sigchld() -> None:
    done = run_script(
        """
import signal
from pysandpool import *

for action in (signal.SIG_IGN, lambda *_: None):
    signal.signal(signal.SIGCHLD, action)
    with SandboxPool(None, PoolConfig(min_size=1)) as pool:
        for _ in range(5):
            with pool.acquire() as lease:
                assert lease.execute(["/bin/sh", "-c", "exit 4"]).exit_code == 4
print("well")
"""
    )
    assert (done.stdout, done.stderr) == ("well\n", "")


def test_with_needs_what_is_still_open(open_pool: OpenPool) -> None:
    pool = open_pool(warm=1, max_size=2)
    lease, released = pool.acquire(), pool.acquire()
    released.release()
    with pytest.raises(SandboxReleasedError), released:
        pass
    pool.close()
    with pytest.raises(PoolStateError), pool:
        pass
    with pytest.raises(PoolStateError), lease:
        pass


def test_with_needs_a_sandbox_that_lives() -> None:
    sandbox = Sandbox()
    sandbox.destroy()
    with pytest.raises(SandboxReleasedError, match="destroyed"), sandbox:
        pass


@pytest.mark.parametrize("tier", ["", "landlock"])
def test_a_closed_pool_keeps_no_descriptor(tier: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether idle sandboxes end before the zygote does, or after it."""
    monkeypatch.setenv("PYSANDPOOL_TIER", tier)
    config = SandboxConfig(namespace_degradation=NamespaceDegradation.ALLOW_DEGRADATION)
    before = open_fds()
    pool = SandboxPool(config, PoolConfig(min_size=2))
    lease = pool.acquire()
    use(lease)
    wait_idle(pool, 2)
    pool.close()
    assert open_fds().items() <= before.items()
    lease.release()
    pool.close()
    with pytest.raises(PoolStateError):
        pool.acquire()
