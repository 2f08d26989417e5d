"""What a tenant may try against its cgroup, and what a crashed host leaves. For tests/vm/run.py."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pysandpool import (
    PoolConfig,
    PooledSandbox,
    Sandbox,
    SandboxConfig,
    SandboxError,
    SandboxPool,
    SandboxReleasedError,
    SandboxResult,
)

PYTHON = "/usr/bin/python3"
MIB = 1 << 20
PARENT = Path("/sys/fs/cgroup" if os.geteuid() == 0 else "/sys/fs/cgroup/user")
SMALL = SandboxConfig(memory_limit_mb=64, timeout_secs=60)


def directories() -> list[Path]:
    return sorted(PARENT.glob("pysandpool-*"))


def wait_until(condition: Callable[[], object], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def own(sandbox: PooledSandbox) -> Path:
    return Path("/sys/fs/cgroup" + Path(f"/proc/{sandbox.pid}/cgroup").read_text().strip().partition("::")[2])


def run(sandbox: PooledSandbox, script: str) -> SandboxResult:
    return sandbox.execute([PYTHON, "-S", "-c", script])


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    yield
    assert directories() == []


@pytest.fixture
def sandbox() -> Iterator[PooledSandbox]:
    with SandboxPool(SMALL) as pool, pool.acquire() as lease:
        yield lease


# --- what is set -----------------------------------------------------------------------------------------


def test_the_files_say_the_limits() -> None:
    config = SandboxConfig(memory_limit_mb=64, max_processes=7, cpu_quota_us=30_000, cpu_period_us=60_000)
    with SandboxPool(config) as pool, pool.acquire() as sandbox:
        found = {
            name: (own(sandbox) / name).read_text().strip()
            for name in ("memory.max", "memory.swap.max", "memory.oom.group", "pids.max", "cpu.max")
            if (own(sandbox) / name).exists()
        }
        expected = {"memory.max": str(64 * MIB), "memory.oom.group": "1", "pids.max": "8", "cpu.max": "30000 60000"}
        if "memory.swap.max" in found:  # a kernel without swap does not have it
            expected["memory.swap.max"] = "0"
        assert found == expected


def test_no_limit_sets_nothing() -> None:
    config = SandboxConfig(memory_limit_mb=None, max_processes=16, timeout_secs=60)
    with SandboxPool(config) as pool, pool.acquire() as sandbox:
        assert not (own(sandbox) / "memory.max").exists() or (own(sandbox) / "memory.max").read_text() == "max\n"


def test_a_sandbox_is_born_in_a_directory_made_ahead() -> None:
    """Nothing else is created meanwhile: its directory would be taken, and another one made in its place."""
    with SandboxPool(SMALL, PoolConfig(min_size=0, max_size=2)) as pool, pool.acquire() as first:
        parent = own(first).parent
        wait_until(lambda: len(list(parent.glob("s*"))) == 1 + 8)  # SP_CGROUP_STASH
        ahead = set(parent.glob("s*"))
        with pool.acquire() as second:
            assert own(second) in ahead
            assert (own(second) / "cgroup.procs").read_text().split()[0] == str(second.pid)


# --- what a tenant tries ---------------------------------------------------------------------------------


def test_cgroups_cannot_be_shown() -> None:
    """Their files belong to the user that the tenant is outside: a mount that shows them would hand them over."""
    for field in "fs_readonly", "fs_readwrite":
        with pytest.raises(SandboxError):
            Sandbox(SandboxConfig(**{field: [PARENT]}, memory_limit_mb=64))


def test_a_tenant_sees_no_cgroups(sandbox: PooledSandbox) -> None:
    look = "import os\nprint(open('/proc/self/cgroup').read(), os.path.exists('/sys/fs/cgroup'), end='')"
    assert run(sandbox, look).stdout == b"0::/\n False"
    mounts = sandbox.execute(["/bin/cat", "/proc/self/mountinfo"]).stdout
    assert b"cgroup" not in mounts


BOMB = """
import os, time
def more():
    while True:
        try:
            if os.fork() == 0:
                more()
        except OSError:
            time.sleep(0.01)
more()
"""


def test_a_fork_bomb_stays_in_its_cgroup() -> None:
    """At its height a neighbour starts and ends commands, and it goes with its lease."""
    config = SandboxConfig(memory_limit_mb=256, max_processes=64, timeout_secs=120)
    with SandboxPool(config, PoolConfig(min_size=2)) as pool, pool.acquire() as neighbour:
        with pool.acquire() as bomb:
            current = own(bomb) / "pids.current"

            def explode() -> None:
                with pytest.raises(SandboxReleasedError):
                    bomb.execute([PYTHON, "-S", "-c", BOMB])

            thread = threading.Thread(target=explode)
            thread.start()
            wait_until(lambda: int(current.read_text()) == 65, 60)
            for _ in range(5):
                assert neighbour.execute(["/bin/echo", "on"]).stdout == b"on\n"
                assert int(current.read_text()) <= 65
        thread.join()
        wait_until(lambda: not current.exists())


HUGE = """
import ctypes, mmap, os
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t] + [ctypes.c_int] * 3 + [ctypes.c_long]
at = libc.mmap(None, 2 << 20, 3, 0x40022, -1, 0)
print("anonymous" if at != 2**64 - 1 else ctypes.get_errno())
print("memfd" if libc.syscall(319, b"x", 4) != -1 else ctypes.get_errno())
"""


def test_huge_pages_of_the_host_cannot_be_had(sandbox: PooledSandbox) -> None:
    """The machine has some (inside.py), and memory.max does not count them."""
    control = subprocess.run([PYTHON, "-c", HUGE], capture_output=True, text=True, check=True)
    assert control.stdout == "anonymous\nmemfd\n"
    assert sandbox.execute([PYTHON, "-c", HUGE]).stdout == b"12\n12\n"


# --- who was ended by the limit, and who was not ---------------------------------------------------------

HOG = "x = [b'x' * (1 << 20) for i in range(200)]"
FILL = "x = bytearray(45 << 20)\nfor at in range(0, len(x), 4096): x[at] = 1\n"


@pytest.mark.parametrize(
    ("script", "signal_number", "oom"),
    [
        (FILL + "import os\nos.kill(os.getpid(), 9)", signal.SIGKILL, False),
        (FILL + "import os\nos.abort()", signal.SIGABRT, False),
        (FILL + "raise MemoryError", None, False),
        ("import os\nif os.fork() == 0:\n    " + HOG + "\nos.wait()\nprint('survived')", signal.SIGKILL, True),
        (
            "import mmap, os\nfor name in 'abc':\n    open('/tmp/' + name, 'wb').write(bytes(30 << 20))",
            signal.SIGKILL,
            True,
        ),
    ],
    ids=["kills itself", "aborts", "gives up", "a child", "files"],
)
def test_oom_killed_is_the_limits_doing(script: str, signal_number: int | None, oom: bool) -> None:
    config = SandboxConfig(memory_limit_mb=64, scratch_size_mb=128, timeout_secs=60)
    with SandboxPool(config) as pool, pool.acquire() as sandbox:
        result = run(sandbox, script)
        assert (result.signal, result.oom_killed, result.timed_out) == (signal_number, oom, False), result
        if not oom:
            again = run(sandbox, "print('on')")
            assert (again.stdout, again.oom_killed) == (b"on\n", False)


def test_a_kill_by_the_hosts_user_is_not_the_limits() -> None:
    with SandboxPool(SMALL) as pool, pool.acquire() as sandbox:
        results: list[SandboxResult] = []
        thread = threading.Thread(
            target=lambda: results.append(run(sandbox, FILL + "print(1, flush=True)\nimport time\ntime.sleep(30)"))
        )
        thread.start()
        wait_until(lambda: int((own(sandbox) / "memory.current").read_text()) > 45 * MIB)
        for pid in (own(sandbox) / "cgroup.procs").read_text().split():
            if int(pid) != sandbox.pid:
                os.kill(int(pid), signal.SIGKILL)
        thread.join()
        assert (results[0].signal, results[0].oom_killed) == (signal.SIGKILL, False)


# --- crashes ---------------------------------------------------------------------------------------------

HOST = """
import os, sys, threading, time
from pysandpool import *
pool = SandboxPool(SandboxConfig(memory_limit_mb=64, timeout_secs=600), PoolConfig(min_size=2))
lease = pool.acquire()
busy = "import os, time\\nfor i in range(8):\\n    if os.fork() == 0: os.setsid(); time.sleep(600)\\ntime.sleep(600)"
threading.Thread(target=lease.execute, args=(["/usr/bin/python3", "-S", "-c", busy],), daemon=True).start()
print(lease.pid, flush=True)
time.sleep(600)
"""


def test_a_host_killed_at_work_leaves_nothing_to_the_next() -> None:
    with subprocess.Popen([sys.executable, "-c", HOST], stdout=subprocess.PIPE, text=True) as host:
        assert host.stdout is not None
        init = int(host.stdout.readline())
        cgroup = Path("/sys/fs/cgroup" + Path(f"/proc/{init}/cgroup").read_text().strip().partition("::")[2])
        wait_until(lambda: int((cgroup / "pids.current").read_text()) > 8)
        host.kill()
    left = [path for path in directories() if f"-{host.pid}-" in path.name]
    assert left == [cgroup.parent]
    wait_until(lambda: "populated 0" in (left[0] / "cgroup.events").read_text())
    assert cgroup.exists(), "what is empty is removed by nobody but the next host"
    with SandboxPool(SMALL):
        assert not left[0].exists()
