"""Once leases have ended after one command each, init makes no process for a second one before it is asked for."""

from __future__ import annotations

import pytest
from eyes import is_standby, stat_fields
from eyes_linux import children_of
from waiting import wait_until

from pysandpool import PoolConfig, PooledSandbox, SandboxConfig, SandboxPool

pytestmark = pytest.mark.skipif("sys.platform == 'darwin'", reason="an agent has no standby")

ECHO = ["/bin/echo", "x"]
LEASES = 8
"""More than the host wants to see before it guesses."""


def sleeps(pid: int) -> bool:
    fields = stat_fields(pid)
    return fields is not None and fields[0] == "S"


def has_standby(lease: PooledSandbox) -> bool:
    """Once init has nothing to do."""
    wait_until(lambda: sleeps(lease.pid), "init sleeps")
    return any(is_standby(pid) for pid in children_of(lease.pid))


def saves_standby(lease: PooledSandbox) -> bool:
    """In the Landlock tier init makes one in any case."""
    return has_standby(lease) == (lease.isolation.tier == "landlock")


def run_single(pool: SandboxPool) -> None:
    for _ in range(LEASES):
        with pool.acquire() as lease:
            assert lease.execute(ECHO).stdout == b"x\n"


@pytest.fixture
def pool() -> SandboxPool:
    return SandboxPool(SandboxConfig(), PoolConfig(min_size=2, max_size=4))


def test_no_standby_after_what_is_probably_the_last_command(pool: SandboxPool) -> None:
    with pool:
        with pool.acquire() as lease:
            assert lease.execute(ECHO).stdout == b"x\n"
            assert has_standby(lease), "the control: nothing is known of earlier leases"
        run_single(pool)
        with pool.acquire() as lease:
            assert has_standby(lease), "the first command does not wait for one"
            assert lease.execute(ECHO).stdout == b"x\n"
            assert saves_standby(lease)


def test_whatever_follows_is_served(pool: SandboxPool) -> None:
    with pool:
        run_single(pool)
        with pool.acquire() as lease:
            assert lease.execute(ECHO).stdout == b"x\n"
            assert saves_standby(lease)
            assert lease.execute(["/bin/cat"], input=b"second").stdout == b"second"
            assert has_standby(lease), "the guess was wrong, so that it is not made any more"
        run_single(pool)
        with pool.acquire() as lease:
            assert lease.execute(ECHO).stdout == b"x\n"
            assert saves_standby(lease)
            lease.write_file("file", b"content")
            assert lease.execute(["/bin/cat", "file"]).stdout == b"content"
        run_single(pool)
        with pool.acquire() as lease:
            assert lease.execute(ECHO).stdout == b"x\n"
            assert saves_standby(lease)
            assert lease.popen(["/bin/sh", "-c", "exit 3"]).wait(10) == 3
            assert lease.execute(ECHO).stdout == b"x\n"


def test_a_last_command_that_times_out(pool: SandboxPool) -> None:
    """Its KILL goes to init, which has no standby then."""
    with pool:
        run_single(pool)
        with pool.acquire() as lease:
            assert lease.execute(["/bin/sleep", "60"], timeout=0.1).timed_out
            assert saves_standby(lease)
            assert lease.execute(ECHO).stdout == b"x\n"
