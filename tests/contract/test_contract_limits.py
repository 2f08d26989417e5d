"""Limits of the host stop a creation: counted, passed on with stage and errno and a hint that names the limit, and
nothing is left behind."""

from __future__ import annotations

import errno
import os

import pytest
from full_tier import refusal
from scripts import run_script

# Leases until a creation fails, and then: what failed, that the pool's counts are right, and that one more is possible
# once one has gone.
UNTIL_IT_FAILS = """
import os, sys
from contextlib import suppress
from host_state import HostState, leave_free_fds
from pools import assert_balanced
from waiting import wait_until
from pysandpool import *

def serves(pool, first):
    with suppress(SandboxCreateError), pool.acquire() as lease, pool.acquire() as other:
        for one in (first, lease, other):
            assert one.execute(["/bin/echo", "alive"]).check().stdout == b"alive\\n"
        return True

def until_it_fails():
    before = HostState()
    with SandboxPool(None, PoolConfig(min_size=0, max_size=1, max_idle_duration=None)) as pool:
        leases, error = [], None
        while error is None and len(leases) < 200:
            try:
                leases.append(pool.acquire())
            except SandboxCreateError as failed:
                error = failed.stage, failed.errno, failed
        print(*error)
        stats = pool.stats()
        assert (stats.in_use_count, stats.create_error_count) == (len(leases), 1), stats
        assert stats.miss_count == len(leases) + 1 and leases, stats
        assert_balanced(stats)
        while len(leases) > 1:
            leases.pop().release()
        assert pool.settle(20)
        # The kernel counts what was killed for a moment more.
        wait_until(lambda: serves(pool, leases[0]), "two more")
        leases.clear()
    del pool
    before.assert_restored()
"""

ENTER = """
import ctypes, os

def enter_user_namespace(uid, gid):
    real = os.geteuid(), os.getegid()
    assert ctypes.CDLL(None, use_errno=True).unshare(0x10000000) == 0, os.strerror(ctypes.get_errno())
    for name, text in (("setgroups", "deny"), ("uid_map", f"{uid} {real[0]} 1"), ("gid_map", f"{gid} {real[1]} 1")):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)

enter_user_namespace(1000, 1000)
"""

SET_SYSCTL = """
with open(f"/proc/sys/user/{SYSCTL}", "w") as file:
    file.write(str(VALUE))
"""


def check(code: str, stage: str, err: int, hint: str) -> None:
    done = run_script(code)
    assert done.stderr == ""
    assert done.returncode == 0
    found_stage, found_err, found_hint = done.stdout.split(" ", 2)
    assert (found_stage, int(found_err)) == (stage, err), found_hint
    assert hint in found_hint


@pytest.mark.namespaces("their limits")
@pytest.mark.parametrize(
    ("sysctl", "stage", "hint"),
    [
        ("max_user_namespaces", "clone", "user.max_user_namespaces"),
        ("max_net_namespaces", "network_namespace", "user.max_net_namespaces"),
        ("max_pid_namespaces", "clone", "user.max_pid_namespaces"),
        ("max_mnt_namespaces", "clone", "user.max_mnt_namespaces"),
    ],
)
def test_number_of_namespaces(sysctl: str, stage: str, hint: str) -> None:
    code = f"SYSCTL, VALUE = {sysctl!r}, 12\n{ENTER}\n{SET_SYSCTL}\n{UNTIL_IT_FAILS}\nuntil_it_fails()"
    check(code, stage, errno.ENOSPC, hint)


@pytest.mark.alone  # others that begin or end meanwhile count for the same user
def test_number_of_processes() -> None:
    """Counted for the user that the zygote runs as, over the whole machine."""
    if os.geteuid() == 0 and refusal():
        pytest.skip("no two leases of root in the Landlock tier have the same user")
    limit = """
import resource
from eyes import status_field
uid, used = os.geteuid() or 65534, 0
for name in os.listdir("/proc"):
    with suppress(OSError):
        if name.isdigit() and int(status_field(int(name), "Uid").split()[0]) == uid:
            used += int(status_field(int(name), "Threads"))
resource.setrlimit(resource.RLIMIT_NPROC, (used + 20, used + 20))
"""
    check(f"{UNTIL_IT_FAILS}\n{limit}\nuntil_it_fails()", "clone", errno.EAGAIN, "RLIMIT_NPROC")


def test_number_of_files() -> None:
    check(f"{UNTIL_IT_FAILS}\nleave_free_fds(60)\nuntil_it_fails()", "host_socket", errno.EMFILE, "RLIMIT_NOFILE")


def test_janitor_at_the_limit_of_files() -> None:
    """Nothing is free for a refill: it is counted, does not spin, and goes on when there is."""
    code = """
import os, resource, time
from contextlib import suppress
from host_state import HostState, leave_free_fds
from pools import assert_balanced
from waiting import wait_until
from pysandpool import *

def one_is_left():
    # Where each sandbox has a cgroup, a directory that is made ahead opens a file meanwhile.
    resource.setrlimit(resource.RLIMIT_NOFILE, before_limit)
    leave_free_fds(1)
    with suppress(OSError):
        os.close(os.dup(0))
        return True

before, before_limit = HostState(), resource.getrlimit(resource.RLIMIT_NOFILE)
with SandboxPool(None, PoolConfig(min_size=2, max_size=4, max_idle_duration=None)) as pool:
    pool.warm(3)  # gives up what the start has left where namespaces are refused
    assert pool.settle(20)
    wait_until(one_is_left, "nothing else opens files", 20)
    leases = [pool.acquire() for _ in range(3)]
    wait_until(lambda: pool.stats().create_error_count >= 2, "refills fail", 20)
    start, cpu, errors = time.monotonic(), time.process_time(), pool.stats().create_error_count
    time.sleep(1)
    assert pool.stats().create_error_count - errors <= 12, pool.stats()
    assert time.process_time() - cpu < 0.5
    for lease in leases:
        lease.release()
    assert pool.settle(20)
    assert pool.stats().idle_count >= 2
    assert_balanced(pool.stats())
    del lease
    leases.clear()
del pool
before.assert_restored()
print("well")
"""
    done = run_script(code)
    assert (done.stderr, done.stdout) == ("", "well\n")


@pytest.mark.namespaces("their limits")
def test_network_namespaces_are_made_ahead_again() -> None:
    """One failure does not end it: once there may be more, there are some when they are needed."""
    code = f"""
{ENTER}
import time
from pysandpool import *

def allow(count):
    with open("/proc/sys/user/max_net_namespaces", "w") as file:
        file.write(str(count))

allow(1)
with SandboxPool(None, PoolConfig(min_size=0, max_size=1)) as pool:
    time.sleep(0.3)
    allow(100)
    time.sleep(2)
    allow(0)
    leases = [pool.acquire() for _ in range(3)]
    for lease in leases:
        lease.execute(["/bin/true"]).check()
print("well")
"""
    done = run_script(code)
    assert (done.stderr, done.stdout) == ("", "well\n")


def test_an_execute_without_descriptors_says_so() -> None:
    """And lease and pool are in order after it."""
    done = run_script(
        """
import errno, os, resource
from host_state import leave_free_fds
from pysandpool import PoolConfig, SandboxError, SandboxPool

with SandboxPool(None, PoolConfig(min_size=1)) as pool, pool.acquire() as lease:
    lease.execute(["sh", "-c", "echo kept > note"])
    pool.settle()
    before, limits = pool.stats(), resource.getrlimit(resource.RLIMIT_NOFILE)
    for free in range(4):
        leave_free_fds(free)
        try:
            lease.execute(["true"])
        except SandboxError as error:
            assert error.errno == errno.EMFILE and "RLIMIT_NOFILE" in error.hint and error.hint in str(error), error
        else:
            raise AssertionError(free)
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert lease.execute(["cat", "note"]).stdout == b"kept\\n"
    after = pool.stats()
    assert (after.in_use_count, after.idle_count, after.lost_count) == (before.in_use_count, before.idle_count, 0)
print("in order")
"""
    )
    assert (done.stdout, done.stderr) == ("in order\n", "")
