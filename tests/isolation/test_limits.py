"""The limits of a tenant are the same whatever limits the host was started with."""

from __future__ import annotations

import json
import os
import signal
from contextlib import suppress
from pathlib import Path

import pytest
from scripts import run_script

from pysandpool import SandboxConfig, SandboxPool
from pysandpool._backend import rlimits

# Prints the limits of a tenant, and what was logged about limits.
SCRIPT = """
import json, logging, os, resource, sys
from pysandpool import SandboxConfig, SandboxPool

user, limits = json.loads(sys.argv[1])
for name, (soft, hard) in limits.items():
    resource.setrlimit(getattr(resource, "RLIMIT_" + name), (soft, hard))
if user is not None and os.geteuid() == 0:
    os.setgroups([])
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)
lines = []
handler = logging.Handler()
handler.emit = lambda record: lines.append((record.event, record.getMessage()))
logging.getLogger("pysandpool").addHandler(handler)
config = SandboxConfig(memory_limit_mb=None, scratch_size_mb=None)
with SandboxPool(config) as pool, pool.acquire() as lease:
    text = lease.execute(["cat", "/proc/self/limits"]).check().stdout.decode()
print(json.dumps([text.splitlines(), lines]))
"""
LOW = {
    "STACK": 1 << 20,
    "AS": 4 << 30,
    "CPU": 500,
    "DATA": 1 << 30,
    "FSIZE": 64 << 20,
    "RSS": 1 << 30,
    "NOFILE": 2048,
    "SIGPENDING": 100,
    "MEMLOCK": 4096,
    "MSGQUEUE": 0,
    "CORE": 0,
}


def test_a_dump_has_no_memory() -> None:
    """A socket in kernel.core_pattern gets dumps whatever RLIMIT_CORE says."""
    with SandboxPool(SandboxConfig()) as pool, pool.acquire() as lease:
        look = "cat /proc/self/coredump_filter; exec cat /proc/self/coredump_filter"
        assert lease.execute(["sh", "-c", look]).check().stdout == b"00000000\n" * 2


def limits_of_a_tenant(user: int | None, limits: dict[str, tuple[int, int]]) -> tuple[dict[str, str], list[str]]:
    done = run_script(SCRIPT, json.dumps([user, limits]))
    assert (done.returncode, done.stderr) == (0, "")
    lines, log = json.loads(done.stdout)
    # The hard limit of processes is a budget of the host's user, and is not raised.
    limits_found = {line[:25].strip(): line[26:] for line in lines[1:] if "processes" not in line}
    return limits_found, [text for event, text in log if event == "limits"]


@pytest.mark.skipif(not rlimits._may_raise(), reason="this process lacks CAP_SYS_RESOURCE, which raises hard limits")
def test_no_limit_of_root_reaches_a_tenant() -> None:
    expected, _ = limits_of_a_tenant(None, {})
    found, log = limits_of_a_tenant(None, {name: (value, value) for name, value in LOW.items()})
    assert found == expected
    assert log == []


def test_no_soft_limit_reaches_a_tenant() -> None:
    names = ("STACK", "AS", "CPU", "DATA", "FSIZE", "RSS")
    expected, _ = limits_of_a_tenant(12345, {})
    found, log = limits_of_a_tenant(12345, {name: (LOW[name], -1) for name in names})
    assert found == expected
    assert log == []


def test_a_hard_limit_that_stays_is_logged() -> None:
    found, log = limits_of_a_tenant(12345, {"AS": (LOW["AS"], LOW["AS"]), "STACK": (LOW["STACK"], LOW["STACK"])})
    assert found["Max address space"].split()[:2] == [str(LOW["AS"])] * 2
    assert found["Max stack size"].split()[:2] == [str(LOW["STACK"])] * 2
    assert [text.split()[0] for text in log] == ["RLIMIT_STACK", "RLIMIT_AS"]
    assert "ulimit -Hs" in log[0]


THREADS = """
import threading
end = threading.Event()
try:
    for started in range(1, 101):
        threading.Thread(target=end.wait).start()
except RuntimeError:
    started -= 1
print(started)
end.set()
"""


def threads_of(user: int) -> int:
    """How many threads a user has on this machine."""
    found = 0
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            found += len(os.listdir(process / "task")) if process.stat().st_uid == user else 0
    return found


def test_a_soft_limit_of_processes_does_not_reach_a_tenant() -> None:
    """With room for the host and its zygote, but not for 100 threads of a tenant."""
    soft = threads_of(12345 if os.geteuid() == 0 else os.geteuid()) + 50
    script = SCRIPT.replace('["cat", "/proc/self/limits"]', f'["/usr/bin/python3", "-c", {THREADS!r}]')
    done = run_script(script, json.dumps([12345, {"NPROC": (soft, max(soft, 4096))}]))
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == [["100"], []]


def test_a_hard_limit_of_processes_is_logged() -> None:
    _, log = limits_of_a_tenant(12345, {"NPROC": (900, 900)})
    assert [text.split()[:5] for text in log] == [["RLIMIT_NPROC", "of", "this", "process", "is"]]
    assert "ulimit -Hu" in log[0]


def test_what_the_limits_are() -> None:
    found, _ = limits_of_a_tenant(12345, {})
    assert found["Max stack size"].split()[:2] == [str(8 << 20), "unlimited"]
    for name in ("Max cpu time", "Max address space", "Max resident set", "Max realtime timeout"):
        assert found[name].split()[:2] == ["unlimited"] * 2, name
    for name in ("Max nice priority", "Max realtime priority"):
        assert found[name].split()[:2] == ["0", "0"], name


# --- where the kernel counts the processes of a user together ---------------------------------------------

OLD_KERNEL = """
import ctypes, json, os, sys, threading, time
import simulate
ctypes.CDLL(None).personality(0x0020000)  # UNAME26: the version is 2.6, and nothing else is changed
from pysandpool import PoolConfig, SandboxConfig, SandboxPool
from pysandpool._backend import linux
linux.find_parent = lambda wanted: None
if json.loads(sys.argv[1]):
    simulate.become_ordinary()

FORK = '''
import os, sys, time
for i in range(int(sys.argv[1])):
    if os.fork() == 0:
        time.sleep(60)
        os._exit(0)
time.sleep(float(sys.argv[2]))
'''
THREADS = '''
import threading, time
for i in range(30):
    threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
time.sleep(30)
'''

def run(lease, script, *args):
    result = lease.execute(["/usr/bin/python3", "-S", "-c", script, *args])
    return result.stdout.decode(), result.exit_code, result.signal, result.oom_killed

found = []
for memory in 256, None:
    with SandboxPool(SandboxConfig(memory_limit_mb=memory, max_processes=20), PoolConfig(min_size=3)) as pool:
        with pool.acquire() as one, pool.acquire() as two, pool.acquire() as three:
            found.append(one.isolation.processes)
            # 19 more at a time in each of two sandboxes: together they are above the limit of one.
            beside = threading.Thread(target=lambda: found.append(run(two, FORK, "19", "1")))
            beside.start()
            found.append(run(one, FORK, "19", "1"))
            beside.join()
            found.append(run(three, FORK, "30", "30"))
            found.append(run(three, THREADS))
            found.append(run(three, "print('usable')"))
            process = one.popen(["/usr/bin/python3", "-S", "-c", FORK, "30", "30"])
            found.append(process.wait(20))
print(json.dumps(found))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "ordinary", [False, True] if os.geteuid() == 0 else [True], ids=lambda one: "user" if one else "root"
)
def test_before_linux_5_14_init_counts_processes(ordinary: bool) -> None:
    """RLIMIT_NPROC would count those of all sandboxes together there, and those of the host's user."""
    done = run_script(OLD_KERNEL, json.dumps(ordinary))
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    good = ["", 0, None, False]
    killed = ["", None, signal.SIGKILL, False]
    expected = [
        "partial",
        good,
        good,
        killed,
        killed,
        ["usable\n", 0, None, False],
        -signal.SIGKILL,
    ]
    assert found == expected * 2
