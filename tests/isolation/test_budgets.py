"""Some of what the kernel gives is counted for the user of the host, over all its processes and sandboxes: a tenant
that takes as much as it can get of it does not stop another pool of the same user."""

from __future__ import annotations

import resource

import pytest
from scripts import run_script

pytestmark = pytest.mark.slow

# What a tenant runs, with Python: takes until it is refused, says how much that was, and keeps it.
DESCRIPTORS = """
import array, os, resource, socket, sys, time
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
null, taken, keep = os.open("/dev/null", os.O_RDONLY), 0, []
rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [null] * 253))]
try:
    while True:
        pair = socket.socketpair()
        pair[0].setblocking(False)
        keep.append(pair)
        try:
            while True:
                pair[0].sendmsg([b"x"], rights)
                taken += 253
        except BlockingIOError:
            pass
except OSError as error:
    print(taken, os.strerror(error.errno), flush=True)
time.sleep(30)
"""
WATCHES = """
import os, select, sys, time
from contextlib import suppress
taken, ends, sets = 0, [], []
with suppress(OSError):
    while len(ends) < 600:
        ends += os.pipe()
with suppress(OSError):
    while True:
        sets.append(select.epoll())
        for end in ends:
            sets[-1].register(end)
            taken += 1
print(taken, flush=True)
time.sleep(30)
"""
SIGNALS = """
import ctypes, os, signal, sys, time
signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
libc, taken = ctypes.CDLL(None), 0
while libc.sigqueue(os.getpid(), 40, 0) == 0:
    taken += 1
print(taken, flush=True)
time.sleep(30)
"""
TIMERS = """
import ctypes, time
libc, taken, timer = ctypes.CDLL("librt.so.1"), 0, ctypes.c_void_p()
while libc.timer_create(1, None, ctypes.byref(timer)) == 0:
    taken += 1
print(taken, flush=True)
time.sleep(30)
"""
PIPES = """
import fcntl, os, sys, time
from contextlib import suppress
taken, keep = 0, []
with suppress(OSError):
    while True:
        keep.append(os.pipe())
        with suppress(OSError):
            fcntl.fcntl(keep[-1][1], 1031, 1 << 20)
        taken += fcntl.fcntl(keep[-1][1], 1032)
print(taken, flush=True)
time.sleep(30)
"""
PROCESSES = """
import os, sys, time
taken = 0
try:
    while True:
        if os.fork() == 0:
            time.sleep(30)
            os._exit(0)
        taken += 1
except OSError:
    print(taken, flush=True)
time.sleep(30)
"""

SCRIPT = """
import os, resource, threading, time
from waiting import Call
from pysandpool import *

def serves(pool):
    for _ in range(3):
        with pool.acquire() as lease:
            assert lease.execute(["/bin/cat"], input=b"x" * 100_000).check().stdout == b"x" * 100_000
            result = lease.execute(["/bin/sleep", "20"], timeout=0.2)
            assert result.timed_out and result.elapsed < 2, result
            # init hands an open file over, for which the limit of init counts.
            lease.write_file("file", b"x" * 1000)
            assert lease.read_file("file") == b"x" * 1000

if HARD is not None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(1024, HARD), HARD))
else:
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
if os.getuid() == 0 and UID != 0:
    os.setgroups([])
    os.setresgid(UID, UID, UID)
    os.setresuid(UID, UID, UID)
limits = resource.getrlimit(resource.RLIMIT_NOFILE)
config = SandboxConfig(memory_limit_mb=None, timeout_secs=None)
with SandboxPool(config) as hostile, SandboxPool(SandboxConfig(), PoolConfig(min_size=0)) as other:
    def hold(tenant):
        with hostile.acquire() as lease:
            return lease.execute(["/usr/bin/python3", "-c", tenant], timeout=3).stdout

    holders = [Call(hold, tenant) for tenant in TENANTS]
    time.sleep(1.5)
    serves(other)
    assert not any(holder.done for holder in holders), "it was measured while the tenants held it"
    for holder in holders:
        print(holder.result().split()[0].decode())
    serves(hostile)
assert resource.getrlimit(resource.RLIMIT_NOFILE) == limits
"""


def taken_by(*tenants: str, hard: int | None = None, uid: int = 12345) -> list[int]:
    """How much of it each tenant got, while another pool served."""
    done = run_script(f"TENANTS, HARD, UID = {tenants!r}, {hard}, {uid}\n{SCRIPT}", timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    return [int(line) for line in done.stdout.split()]


@pytest.mark.parametrize("hard", [None, 4096, 1024], ids=["hard-as-it-is", "hard-4096", "hard-1024"])
def test_descriptors_under_way(hard: int | None) -> None:
    """unix(7): each sender is held to its own limit, so that a tenant's must be below what the host has."""
    bound = min(4096, (hard or resource.getrlimit(resource.RLIMIT_NOFILE)[1]) // 2)
    (taken,) = taken_by(DESCRIPTORS, hard=hard)
    assert bound - 253 <= taken <= bound + 253


# Root's sandboxes run as one user, which those of other tests share: there, too, nothing is left for their tenants.
@pytest.mark.parametrize("uid", [pytest.param(0, id="root", marks=pytest.mark.alone), pytest.param(12345, id="user")])
def test_all_others_at_once(uid: int) -> None:
    assert all(taken_by(WATCHES, SIGNALS, TIMERS, PIPES, PROCESSES, uid=uid))
