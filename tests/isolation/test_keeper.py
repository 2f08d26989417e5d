"""The process that keeps the memory of an interpreter (csrc/init/keeper.h): it can do nothing, and counts nowhere."""

from __future__ import annotations

import platform
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from code_pools import code_pool
from waiting import wait_until

from pysandpool import SandboxPool

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="an interpreter needs a zygote")

SINGLE_LEASES = 4
"""After so many leases of one command the host expects that the next one is the same, and init keeps a keeper for a
moment: see `is_probably_last` in csrc/host/sandbox/session.c."""

FIND = """
import os, time
def name_of(pid):
    try:
        return open(f"/proc/{pid}/comm").read().strip()
    except OSError:
        return None
def keepers():
    return [int(pid) for pid in os.listdir("/proc") if pid.isdigit() and name_of(pid) == "sandpool-keeper"]
"""
# init reaps it as soon as it gets a processor.
KILL = """
os.kill(keepers()[0], 9)
for _ in range(2000):
    if keepers():
        time.sleep(0.01)
keepers()
"""
# Has another process call mkdir(), whose code is at the same address there, by its registers.
TRACE = """
import ctypes, signal
libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
ATTACH, GET, SET, GO, WALL = 16, 12, 13, 7, 0x40000000
RIP, RSP, RDI, RSI, WHICH_CALL = 16, 19, 14, 13, 15
path = ctypes.create_string_buffer(b"/tmp/made", 64)
stack = ctypes.create_string_buffer(1 << 16)
def has_made(pid):
    assert libc.ptrace(ATTACH, pid, None, None) == 0, ctypes.get_errno()
    os.waitpid(pid, WALL)
    registers = (ctypes.c_ulonglong * 27)()
    assert libc.ptrace(GET, pid, None, registers) == 0
    registers[RIP] = ctypes.cast(libc.mkdir, ctypes.c_void_p).value
    registers[RSP] = (ctypes.addressof(stack) + (1 << 15) & ~15) - 8
    registers[RDI], registers[RSI], registers[WHICH_CALL] = ctypes.addressof(path), 0o755, 2**64 - 1
    assert libc.ptrace(SET, pid, None, registers) == 0
    assert libc.ptrace(GO, pid, None, None) == 0
    _, status = os.waitpid(pid, WALL)
    assert os.WSTOPSIG(status) == signal.SIGSEGV  # it has returned from mkdir, to the address 0
    try:
        os.rmdir("/tmp/made")
    except FileNotFoundError:
        return False
    return True
"""


@pytest.fixture(scope="module")
def pool() -> Iterator[SandboxPool]:
    with code_pool() as pool:
        yield pool


def test_each_interpreter_that_waits_has_a_keeper_without_descriptors(pool: SandboxPool) -> None:
    code = FIND + "[(pid, os.listdir(f'/proc/{pid}/fd')) for pid in keepers()]"
    with pool.acquire() as lease:
        assert lease.run_code(code).text == "[(3, [])]"
        assert lease.run_code("import os; os.getppid()").text == "1"
        # A keeper that ends is reaped, also beside a command.
        result = lease.execute(["sh", "-c", "sleep 0.2; cat /proc/[0-9]*/comm"], text=True)
        assert "sandpool-keeper" not in result.stdout


@pytest.mark.skipif(platform.machine() != "x86_64", reason="elsewhere a return address is in a register")
def test_a_keeper_keeps_its_stack_when_a_tenant_begins(pool: SandboxPool) -> None:
    """On a busy machine it may be between two calls then. Before Linux 5.16 its crash ended the tenant's process."""
    code = """
import ctypes
pointer = int(open(f"/proc/{keepers()[0]}/syscall").read().split()[-2], 16)
ctypes.c_ulong.from_address(pointer).value != 0
"""
    assert pool.run_code(FIND + code).text == "True"


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the registers are those of x86-64")
def test_a_keeper_can_be_made_to_call_what_the_tenant_likes_and_nothing_comes_of_it(pool: SandboxPool) -> None:
    """The control: the same happens to a process that the tenant has started itself, and that one makes a directory."""
    child = "child = os.fork()\nif not child:\n    time.sleep(60)\n"
    result = pool.run_code(FIND + TRACE + child + "(has_made(child), has_made(keepers()[0]))")
    assert result.text == "(True, False)", result


def test_a_tenant_has_as_many_processes_as_it_may_with_a_keeper_and_without() -> None:
    count = """
children = []
try:
    while len(children) < 50:
        child = os.fork()
        if not child:
            time.sleep(60)
        children.append(child)
except BlockingIOError:
    pass
print(len(children) + 1)
"""
    with code_pool(config={"max_processes": 6}) as pool, pool.acquire() as lease:
        assert lease.run_code(FIND + count).stdout == "6\n"
        assert int(lease.execute(["/usr/bin/python3", "-c", FIND + count]).stdout) in (6, 7)


def test_memory_that_a_keeper_shares_counts_once() -> None:
    code = "import time\nheld = bytearray(70 << 20)\nfor at in range(0, len(held), 4096): held[at] = 1\ntime.sleep(0.7)"
    with code_pool(config={"memory_limit_mb": 100}) as pool:
        assert pool.run_code(code).exit_code == 0
        assert pool.run_code(code.replace("70", "120")).oom_killed


def test_what_only_a_keeper_has_is_freed_when_the_tenant_executes_a_program() -> None:
    """The tenant's memory is another one then, and the keeper would have what no look counts."""
    code = FIND + "os.execv('/bin/sh', ['sh', '-c', 'sleep 1; cat /proc/[0-9]*/comm'])"
    with code_pool(config={"memory_limit_mb": 100}) as pool:
        result = pool.run_code(code)
    assert result.stdout.split() == ["sandpool-init", "sh"]


def test_code_that_kills_its_keeper_runs_on(pool: SandboxPool) -> None:
    with pool.acquire() as lease:
        for _ in range(2):
            result = lease.run_code(FIND + KILL)
            assert (result.text, result.exit_code) == ("[]", 0)


def test_a_keeper_is_stopped_when_the_result_is_there() -> None:
    """It is killed only later, and with what the tenant has made of its memory it could change a file meanwhile."""

    def status_of(pid: int) -> dict[str, str]:
        try:
            text = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
        except OSError:
            return {}
        return dict(line.split(":\t", 1) for line in text.splitlines())

    with code_pool() as pool:
        for _ in range(SINGLE_LEASES):
            assert pool.run_code("1").ok
        for _ in range(10):
            with pool.acquire() as lease:
                children = Path(f"/proc/{lease.pid}/task/{lease.pid}/children").read_text(encoding="ascii").split()
                (keeper,) = (int(pid) for pid in children if status_of(int(pid))["Name"] == "sandpool-keeper")
                assert lease.run_code("1").ok
                status = status_of(keeper)
            # A signal that is pending comes before the next instruction.
            awaited = int(status.get("ShdPnd", "0"), 16) & (1 << signal.SIGSTOP - 1 | 1 << signal.SIGKILL - 1)
            assert awaited or status.get("State", "X")[0] in "TZX", status


def test_what_code_leaves_running_has_ended_when_its_result_is_there(pool: SandboxPool) -> None:
    """A keeper that lives is no reason to wait, and none not to wait for others."""
    leaves = "import os, time\nif not os.fork():\n    os.setsid()\n    time.sleep(60)\n    os._exit(0)"
    with pool.acquire() as lease:
        for _ in range(3):
            assert lease.run_code(leaves).exit_code == 0
            assert lease.run_code(FIND + "[pid for pid in os.listdir('/proc') if pid.isdigit()].__len__()").text == "3"
        init = Path(f"/proc/{lease.pid}/task/{lease.pid}/children")
        wait_until(lambda: len(init.read_text(encoding="ascii").split()) == 2, "the standby and its keeper")
