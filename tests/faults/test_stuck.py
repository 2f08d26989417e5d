"""A sandbox that does not end when it is killed holds up neither the others of its zygote nor close().

It is made with a tracer: a process of the test enters the sandbox's pid namespace and is held at its exit, so that the
sandbox's init, which waits for all of that namespace, cannot end. It is let go, or ends with the test, in any case.
"""

from __future__ import annotations

import os

import pytest
from scripts import run_script

HELD = """
import ctypes, os, signal, time
from contextlib import contextmanager
from eyes import alive, zygote_of
from waiting import wait_until
from pysandpool import *

libc = ctypes.CDLL(None, use_errno=True)
PTRACE_CONT, PTRACE_SEIZE, PTRACE_O_TRACEEXIT, CLONE_NEWPID = 7, 0x4206, 0x40, 0x20000000

def call(name, *args):
    args = [ctypes.c_void_p(arg) if isinstance(arg, int) and name == "ptrace" else arg for arg in args]
    assert getattr(libc, name)(*args) != -1, (name, os.strerror(ctypes.get_errno()))

@contextmanager
def held_at_exit(init):
    own, other = (os.open(f"/proc/{pid}/ns/pid", os.O_RDONLY) for pid in ("self", init))
    call("setns", other, CLONE_NEWPID)
    pid = os.fork()
    if pid == 0:
        while True:
            time.sleep(60)
    call("setns", own, CLONE_NEWPID)
    call("ptrace", PTRACE_SEIZE, pid, 0, PTRACE_O_TRACEEXIT)
    try:
        yield pid
    finally:
        os.kill(pid, signal.SIGKILL)
        for _ in range(50):
            libc.ptrace(PTRACE_CONT, ctypes.c_void_p(pid), None, None)
            if os.waitpid(pid, os.WNOHANG | 0x40000000)[0] == pid and not os.path.exists(f"/proc/{pid}"):
                break
            time.sleep(0.02)
        os.close(own)
        os.close(other)
"""


@pytest.mark.namespaces("a namespace of pids that the test enters")
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to enter a sandbox")
def test_it_blocks_nothing() -> None:
    code = """
pool = SandboxPool(None, PoolConfig(min_size=1, max_size=2))
lease = pool.acquire()
lease.execute(["/bin/true"]).check()
init, zygote = lease.pid, zygote_of(lease)
with held_at_exit(init) as pid:
    lease.release()
    started = time.monotonic()
    for _ in range(8):
        with pool.acquire() as other:
            assert other.execute(["/bin/echo", "x"]).check().stdout == b"x\\n"
    assert time.monotonic() - started < 5
    assert os.path.exists(f"/proc/{init}"), "it was there all the time"
    assert zygote_of(pool.acquire()) == zygote, "and so was its zygote"
    started = time.monotonic()
    pool.close()
    assert time.monotonic() - started < 4, time.monotonic() - started
    assert os.path.exists(f"/proc/{init}")
wait_until(lambda: not alive(zygote), "the zygote is gone", 20)
wait_until(lambda: not alive(init), "and the sandbox", 20)
try:
    raise AssertionError(f"left for wait(): {os.waitpid(-1, os.WNOHANG)}")
except ChildProcessError:
    pass
print("well")
"""
    done = run_script(HELD + code, timeout=60)
    assert (done.stderr, done.stdout) == ("", "well\n")
