"""Contract, row "a sandbox dies": idle, leased and unused, used, and while a command runs."""

from __future__ import annotations

import errno
import os
import signal
import time

import pytest
from eyes import alive, children
from fake import FakeLauncher
from pools import OpenPool, assert_balanced, use, wait_idle
from scripts import run_script
from waiting import Call, wait_until

from pysandpool import PooledSandbox, SandboxLostError
from pysandpool._backend.cgroup import find_parent


def end(lease: PooledSandbox) -> int:
    """Kills the sandbox of a lease, and waits until the janitor has had the time to notice."""
    pid = lease.pid
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not alive(pid), "it is dead")
    time.sleep(0.1)
    return pid


@pytest.mark.parametrize("min_size", [0, 2])
def test_idle_is_evicted_at_once(real_pool: OpenPool, min_size: int) -> None:
    pool = real_pool(min_size=min_size, warm=2, max_size=2, max_idle_duration=None)
    with pool.acquire() as lease:
        pid = lease.pid
    os.kill(pid, signal.SIGKILL)
    start = time.monotonic()
    wait_until(lambda: pool.stats().evict_count == 1, "noticed")
    elapsed = time.monotonic() - start
    wait_idle(pool, max(min_size, 1))
    leases = [pool.acquire() for _ in range(2)]
    assert pid not in {lease.pid for lease in leases}
    for lease in leases:
        lease.execute(["/bin/true"]).check()
        lease.release()
    assert elapsed < 2, "0.1 s on an idle machine"


def test_unused_lease_gets_another(real_pool: OpenPool) -> None:
    """Also when the death has been noticed long before, and again."""
    pool = real_pool(warm=1, max_size=1, max_idle_duration=None)
    with pool.acquire() as lease:
        dead = end(lease)
        assert lease.execute(["/bin/echo", "hello"]).check().stdout == b"hello\n"
        assert lease.pid != dead
        stats = pool.stats()
        assert (stats.lost_count, stats.evict_count, stats.evictions.replaced) == (0, 1, 1)
    assert pool.settle(20)
    assert_balanced(pool.stats())


def test_unused_lease_over_the_fake_gets_another(launcher: FakeLauncher) -> None:
    with launcher.open(warm=1, max_size=1) as pool, pool.acquire() as lease:
        assert launcher.kill(lease.pid)
        time.sleep(0.1)
        assert lease.execute(["/bin/true"]).exit_code == 0
        assert launcher.kill(lease.pid)
        with pytest.raises(SandboxLostError):
            lease.execute(["/bin/true"])
        lease.release()
        assert pool.settle(10)
        assert launcher.live == pool.idle_len() == 1
        assert_balanced(pool.stats())


UNREAD = """
import os, resource, signal, time
from eyes import is_standby, stat_fields
from waiting import Call, wait_until
from pysandpool import PoolConfig, SandboxCreateError, SandboxPool

def standbys(init):
    return [int(name) for name in os.listdir("/proc") if name.isdigit() and is_standby(int(name))
            and (stat_fields(int(name)) or [0, 0])[1] == str(init)]

with SandboxPool(None, PoolConfig(min_size=0, max_size=1)) as pool:
    lease = pool.acquire()
    init = lease.pid
    wait_until(lambda: standbys(init), "a child waits for the request")
    os.kill(standbys(init)[0], signal.SIGSTOP)  # it reads no request: none can have started
    running = Call(lease.execute, ["/bin/true"])
    time.sleep(0.3)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    os.kill(init, signal.SIGKILL)
    try:
        running.result()
    except SandboxCreateError as error:
        print(error.stage, error.errno)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    print(pool.stats().lost_count)
"""


def test_a_request_nobody_read_is_not_lost() -> None:
    """No other sandbox can be made for it: then that is the error, for nothing has run."""
    done = run_script(UNREAD)
    first = "cgroup" if find_parent({"memory", "pids"}) is not None else "host_socket"  # the first to need a descriptor
    assert (done.stdout, done.stderr) == (f"{first} {errno.EMFILE}\n0\n", "")


def test_unused_lease_that_died_does_not_become_idle(real_pool: OpenPool) -> None:
    pool = real_pool(warm=1, max_size=1, max_idle_duration=None)
    lease = pool.acquire()
    dead = end(lease)
    lease.release()
    assert pool.settle(20)
    with pool.acquire() as other:
        assert other.pid != dead
        other.execute(["/bin/true"]).check()
    assert_balanced(pool.stats())


def test_used_lease_is_lost(real_pool: OpenPool) -> None:
    pool = real_pool(warm=1, max_size=1, max_idle_duration=None)
    with pool.acquire() as lease:
        use(lease)
        end(lease)
        for _ in range(2):
            with pytest.raises(SandboxLostError):
                lease.execute(["/bin/true"])
    assert pool.settle(20)
    with pool.acquire() as other:
        use(other)
    assert_balanced(pool.stats())


def test_running_command_is_lost(real_pool: OpenPool) -> None:
    pool = real_pool(warm=1, max_size=1, max_idle_duration=None)
    with pool.acquire() as lease:
        running = Call(lease.execute, ["/bin/sleep", "60"])
        wait_until(lambda: children(lease.pid), "it runs")
        os.kill(lease.pid, signal.SIGKILL)
        with pytest.raises(SandboxLostError):
            running.result()
    assert pool.settle(20)
    assert (pool.stats().lost_count, pool.idle_len()) == (1, 1)
    assert_balanced(pool.stats())
