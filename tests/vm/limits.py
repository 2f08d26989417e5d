"""Limits that a cgroup enforces. For a kernel with cgroup v2 and a subtree of it: run by run.py."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pysandpool import (
    PoolConfig,
    SandboxConfig,
    SandboxCreateError,
    SandboxLostError,
    SandboxPool,
    SandboxResult,
)

PYTHON = "/usr/bin/python3"
MIB = 1 << 20
PARENT = Path("/sys/fs/cgroup" if os.geteuid() == 0 else "/sys/fs/cgroup/user")
HOG = "x = bytearray(200 << 20)\nfor at in range(0, len(x), 4096): x[at] = 1\nprint('survived')"
FORKS = """
import os, time
for i in range(8):
    if os.fork() == 0:
        x = bytearray(25 << 20)
        time.sleep(60)
time.sleep(60)
"""


def directories() -> list[Path]:
    return sorted(PARENT.glob("pysandpool-*"))


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    yield
    assert directories() == []


def test_the_limit_ends_a_hog_and_only_it() -> None:
    config = SandboxConfig(memory_limit_mb=64, timeout_secs=60)
    with SandboxPool(config, PoolConfig(min_size=2)) as pool, pool.acquire() as hog, pool.acquire() as other:
        results: list[SandboxResult] = []
        beside = [PYTHON, "-S", "-c", "import time\nx = bytearray(40 << 20)\ntime.sleep(3)\nprint('fine')"]
        neighbour = threading.Thread(target=lambda: results.append(other.execute(beside)))
        neighbour.start()
        result = hog.execute([PYTHON, "-S", "-c", "print('start', flush=True)\n" + HOG])
        neighbour.join()
        print(f"64 MB limit, 200 MB hog: {result!r}, peak {result.max_rss_bytes / MIB:.1f} MiB")
        assert (result.oom_killed, result.timed_out) == (True, False)
        assert (result.exit_code, result.signal, result.stdout) == (None, signal.SIGKILL, b"start\n")
        assert 60 * MIB <= result.max_rss_bytes <= 64 * MIB
        assert (results[0].stdout, results[0].oom_killed) == (b"fine\n", False)
        with pytest.raises(SandboxLostError):
            hog.execute(["/bin/true"])
        assert other.execute(["/bin/true"]).exit_code == 0
    assert directories() == []


def test_without_the_limit_the_hog_survives() -> None:
    with SandboxPool(SandboxConfig(memory_limit_mb=None, timeout_secs=60)) as pool, pool.acquire() as sandbox:
        result = sandbox.execute([PYTHON, "-S", "-c", HOG])
        assert (result.stdout, result.oom_killed) == (b"survived\n", False)


def test_the_report_says_what_was_read_back() -> None:
    with SandboxPool(SandboxConfig(cpu_quota_us=50_000)) as pool, pool.acquire() as sandbox:
        report = sandbox.isolation
        assert (report.memory, report.processes, report.cpu, report.namespaces) == ("full",) * 4
    unlimited = SandboxConfig(memory_limit_mb=None, max_processes=None)
    with SandboxPool(unlimited) as pool, pool.acquire() as sandbox:
        assert (sandbox.isolation.memory, sandbox.isolation.processes, sandbox.isolation.cpu) == ("none",) * 3


@pytest.mark.parametrize(
    "script",
    [
        FORKS,
        "import mmap\nm = mmap.mmap(-1, 200 << 20)\nfor at in range(0, 200 << 20, 4096): m[at] = 1",
        "import os\nwhile True: os.write(os.memfd_create('x'), bytes(8 << 20))",
        "for name in '/tmp/a', '/dev/shm/b':\n    open(name, 'wb').write(bytes(50 << 20))",
    ],
    ids=["forks", "shared", "memfds", "scratch"],
)
def test_all_memory_counts(script: str) -> None:
    config = SandboxConfig(memory_limit_mb=64, scratch_size_mb=128, timeout_secs=60)
    with SandboxPool(config) as pool, pool.acquire() as sandbox:
        result = sandbox.execute([PYTHON, "-S", "-c", script])
        assert (result.oom_killed, result.timed_out) == (True, False), (result, result.stderr)


def test_a_kill_that_is_not_the_limits() -> None:
    with SandboxPool(SandboxConfig(memory_limit_mb=64, timeout_secs=60)) as pool, pool.acquire() as sandbox:
        result = sandbox.execute(["/bin/sh", "-c", "kill -9 $$"])
        assert (result.signal, result.oom_killed) == (signal.SIGKILL, False)
        late = sandbox.execute(["/bin/sleep", "60"], timeout=0.5)
        assert (late.timed_out, late.oom_killed) == (True, False)


def test_the_peak_is_the_commands_and_cpu_counts_what_nobody_waited_for() -> None:
    with SandboxPool(SandboxConfig(memory_limit_mb=128, timeout_secs=60)) as pool, pool.acquire() as sandbox:
        touch = "x = bytearray(50 << 20)\nfor at in range(0, len(x), 4096): x[at] = 1"
        big = sandbox.execute([PYTHON, "-S", "-c", touch])
        small = sandbox.execute(["/bin/true"])
        assert 50 * MIB <= big.max_rss_bytes <= 90 * MIB
        assert small.max_rss_bytes < 50 * MIB
        left = "import os, time\nif os.fork() == 0:\n    while True: pass\ntime.sleep(1)"
        result = sandbox.execute([PYTHON, "-S", "-c", left])
        used = result.user_time + result.system_time
        assert 0.5 < used <= 2 * result.elapsed, (used, result)  # there are two processors


def test_processes() -> None:
    script = """
import os, time
n = 0
try:
    while True:
        if os.fork() == 0:
            time.sleep(60)
        n += 1
except BlockingIOError:
    print(n)
"""
    with SandboxPool(SandboxConfig(max_processes=10, timeout_secs=60)) as pool, pool.acquire() as sandbox:
        limit = next(PARENT.glob(f"pysandpool-{os.getpid()}-*/s*/pids.max")).read_text()
        assert (sandbox.execute([PYTHON, "-S", "-c", script]).stdout, limit) == (b"9\n", "11\n")


BUSY = """
import time
start, cpu = time.monotonic(), time.process_time()
while time.monotonic() < start + 4:
    pass
print((time.process_time() - cpu) / (time.monotonic() - start))
"""


def test_two_sandboxes_share_as_configured() -> None:
    """Each has half a cpu, whatever else the machine does; without a quota each has a whole one."""
    shares: dict[int | None, list[float]] = {}
    for quota in (50_000, None):
        config = SandboxConfig(cpu_quota_us=quota, timeout_secs=60)
        with SandboxPool(config, PoolConfig(min_size=2)) as pool, pool.acquire() as one, pool.acquire() as two:
            shares[quota] = []

            def measure(sandbox: object, into: list[float] = shares[quota]) -> None:
                into.append(float(sandbox.execute([PYTHON, "-S", "-c", BUSY]).check().stdout))  # type: ignore[attr-defined]

            threads = [threading.Thread(target=measure, args=(sandbox,)) for sandbox in (one, two)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
    print(f"share of a cpu with a quota of 50 %: {shares[50_000]}, without: {shares[None]}")
    assert all(0.42 < share < 0.56 for share in shares[50_000])
    assert all(share > 0.6 for share in shares[None])


def test_directories_go_with_their_sandboxes() -> None:
    with SandboxPool(SandboxConfig(), PoolConfig(min_size=1, max_size=1)) as pool:
        for _ in range(20):
            with pool.acquire() as sandbox:
                sandbox.execute(["/bin/true"])
        deadline = time.monotonic() + 10
        # One idle, and the stash.
        while len(list(directories()[0].glob("s*"))) > 9 and time.monotonic() < deadline:
            time.sleep(0.05)
        assert len(list(directories()[0].glob("s*"))) <= 9
    assert directories() == []


def test_a_crashed_hosts_leftovers_are_swept() -> None:
    pid = os.fork()
    if pid == 0:
        pool = SandboxPool(SandboxConfig(), PoolConfig(min_size=2))
        assert not pool.closed  # it lives until the signal
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)
    left = [path for path in directories() if f"-{pid}-" in path.name]
    assert len(left) == 1
    deadline = time.monotonic() + 10
    while "populated 1" in (left[0] / "cgroup.events").read_text() and time.monotonic() < deadline:
        time.sleep(0.05)
    with SandboxPool(SandboxConfig()):
        assert not left[0].exists()


def test_a_named_parent() -> None:
    mine = PARENT / "mine"
    mine.mkdir()
    try:
        with SandboxPool(SandboxConfig(cgroup_parent=mine)) as pool, pool.acquire() as sandbox:
            own = Path(f"/proc/{sandbox.pid}/cgroup").read_text().strip()
            assert f"{mine}/pysandpool-{os.getpid()}-" in "/sys/fs/cgroup" + own.partition("::")[2]
            assert sandbox.execute(["/bin/cat", "/proc/self/cgroup"]).stdout == b"0::/\n"
    finally:
        mine.rmdir()


def test_a_parent_that_may_not_be_used() -> None:
    """Root may write everywhere, but no controllers come down to a directory below one that enables none."""
    name = "/sys/fs/cgroup/user/session" if os.geteuid() == 0 else "/sys/fs/cgroup"
    with pytest.raises(SandboxCreateError) as raised:
        SandboxPool(SandboxConfig(cgroup_parent=name))
    assert raised.value.stage == "cgroup"
    assert "Delegate" in raised.value.hint
