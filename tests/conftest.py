"""What every test may use: pools over both backends, and eyes on the host's own state."""

from __future__ import annotations

import ctypes
import gc
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from agent import AgentLauncher
from fake import FakeLauncher, warmed

from pysandpool import PoolConfig, PooledSandbox, PoolStats, SandboxConfig, SandboxPool

OpenPool = Callable[..., SandboxPool]
PR_SET_CHILD_SUBREAPER = 36


@pytest.fixture(scope="session", autouse=True)
def _orphans_are_seen() -> None:
    """A zygote is nobody's child. Here orphans come to this process, so that one that is left behind is found."""
    assert ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0


@pytest.fixture(scope="module", autouse=True)
def _orphans_are_reaped() -> Iterator[None]:
    """What came to this process so far: every look at /proc would meet it again."""
    yield
    reap_orphans()


# --- waiting ---------------------------------------------------------------------------------------------


def wait_until(condition: Callable[[], object], what: str, seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(0.001)


class Call:
    """A function run in a thread of its own; result() gives what it returned or raises what it raised."""

    def __init__(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        self._value: Any = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(function, args, kwargs), daemon=True)
        self._thread.start()

    def _run(self, function: Callable[..., Any], args: Any, kwargs: Any) -> None:
        try:
            self._value = function(*args, **kwargs)
        except BaseException as error:  # noqa: BLE001  # result() raises it
            self._error = error

    @property
    def done(self) -> bool:
        return not self._thread.is_alive()

    def result(self, seconds: float = 20.0) -> Any:
        self._thread.join(seconds)
        assert not self._thread.is_alive(), f"the call did not return within {seconds} s"
        if self._error is not None:
            raise self._error
        return self._value


# --- the host's own state --------------------------------------------------------------------------------


def open_fds() -> dict[int, str]:
    fds = {}
    for name in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):  # the listing's own
            fds[int(name)] = os.readlink(f"/proc/self/fd/{name}")
    return fds


def leave_free_fds(count: int) -> None:
    """Lowers the soft limit of this process, until so many more files can be opened."""
    used, limit, free = set(open_fds()), 0, 0
    while free < count:
        free += limit not in used
        limit += 1
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))


def thread_count() -> int:
    return len(os.listdir("/proc/self/task"))


def stat_fields(pid: int) -> list[str] | None:
    """The fields of /proc/<pid>/stat from the state on; None when there is no such process."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return text.rpartition(")")[2].split()


def alive(pid: int) -> bool:
    fields = stat_fields(pid)
    return fields is not None and fields[0] not in "ZX"


def identity(pid: int) -> tuple[int, int]:
    """(pid, start time): a process's name that is not used again."""
    fields = stat_fields(pid)
    assert fields is not None, f"no process {pid}"
    return pid, int(fields[19])


def status_field(pid: int | str, name: str) -> str:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        key, _, value = line.partition(":")
        if key == name:
            return value.strip()
    raise AssertionError(f"no {name} in /proc/{pid}/status")


def children(pid: int | None = None) -> set[int]:
    """Direct children of a process, zombies too; below a sandbox's init, its commands without the standby."""
    parent = os.getpid() if pid is None else pid
    found = set()
    for name in os.listdir("/proc"):
        if name.isdigit():
            fields = stat_fields(int(name))
            if fields is not None and int(fields[1]) == parent and (pid is None or not is_standby(int(name))):
                found.add(int(name))
    return found


def is_standby(pid: int) -> bool:
    """Whether this is still our program, waiting to become a sandbox's next command."""
    try:
        return Path(f"/proc/{pid}/comm").read_text() == "sandpool-zygote\n"
    except OSError:
        return False


def zygote_of(lease: PooledSandbox) -> int:
    return int(status_field(lease.pid, "PPid"))


def reap_orphans() -> None:
    """The zombies of hosts that were children of this process and are gone."""
    for pid in children():
        fields = stat_fields(pid)
        if fields is not None and fields[0] == "Z" and "sandpool" in Path(f"/proc/{pid}/comm").read_text():
            os.waitpid(pid, 0)


class HostState:
    """What must be the same after as it was before: fds, threads, child processes and orphans."""

    def __init__(self) -> None:
        gc.collect()
        reap_orphans()
        self.fds = open_fds()
        self.threads = thread_count()
        self.children = children()

    def assert_restored(self, seconds: float = 10.0) -> None:
        gc.collect()
        try:
            wait_until(lambda: children() <= self.children, "child processes", seconds)
            wait_until(lambda: thread_count() <= self.threads, "threads", seconds)
            wait_until(lambda: set(open_fds()) <= set(self.fds), "fds", seconds)
        except AssertionError as error:
            left = {fd: link for fd, link in open_fds().items() if fd not in self.fds}
            extra = children() - self.children
            raise AssertionError(f"{error}; left: fds {left}, children {extra}, threads {thread_count()}") from None


# --- pools -----------------------------------------------------------------------------------------------


def use(lease: PooledSandbox) -> None:
    """Runs a command, so that the sandbox counts as used."""
    lease.execute(["/bin/true"])


def assert_balanced(stats: PoolStats) -> None:
    assert stats.created_count - stats.evict_count == stats.idle_count + stats.in_use_count, stats
    assert stats.evictions.total == stats.evict_count, stats


def wait_idle(pool: SandboxPool, count: int) -> None:
    """Until `count` entries are IDLE and none is on its way."""
    wait_until(
        lambda: pool.stats().idle_count == count and pool.stats().recycling_count == 0,
        f"{count} idle, none recycling",
    )


@pytest.fixture
def launcher() -> Iterator[FakeLauncher]:
    with FakeLauncher() as fake:
        yield fake


@pytest.fixture(params=["fake", "real", "agent"])
def open_pool(request: pytest.FixtureRequest) -> Iterator[OpenPool]:
    """Opens pools over the backend of this run, see `warmed`; closes them at the end."""
    pools: list[SandboxPool] = []
    launchers: list[FakeLauncher | AgentLauncher] = []

    def open_one(*, warm: int = 0, **fields: Any) -> SandboxPool:
        if request.param == "real":
            pool = warmed(lambda config: SandboxPool(None, config), warm, fields)
        else:
            launchers.append(FakeLauncher() if request.param == "fake" else AgentLauncher())
            pool = launchers[-1].open(warm=warm, **fields)
        pools.append(pool)
        return pool

    yield open_one
    for pool in pools:
        pool.close()
    for launcher in launchers:
        launcher.close()


@pytest.fixture
def real_pool() -> Iterator[OpenPool]:
    """Opens real pools, see `warmed`; closes them at the end."""
    pools: list[SandboxPool] = []

    def open_one(config: SandboxConfig | None = None, *, warm: int = 1, **fields: Any) -> SandboxPool:
        pool = warmed(lambda pool_config: SandboxPool(config, pool_config), warm, {"max_size": 4, **fields})
        pools.append(pool)
        return pool

    yield open_one
    for pool in pools:
        pool.close()


@pytest.fixture(scope="module")
def shared_pool() -> Iterator[SandboxPool]:
    """One real pool for the tests of a file that only need some sandbox."""
    with SandboxPool(SandboxConfig(), PoolConfig(min_size=2, max_size=4)) as pool:
        yield pool


@pytest.fixture
def sandbox(shared_pool: SandboxPool) -> Iterator[PooledSandbox]:
    with shared_pool.acquire() as lease:
        yield lease


@pytest.fixture(params=["/tmp", "/var/tmp"])
def host_dir(request: pytest.FixtureRequest) -> Iterator[Path]:
    """A directory of the host that an unprivileged uid may read and write, below /tmp and elsewhere."""
    path = Path(tempfile.mkdtemp(prefix="sandpool-test-", dir=request.param))
    path.chmod(0o777)
    yield path
    shutil.rmtree(path)


def run_script(code: str, *args: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    """Runs Python code in a process of its own: for limits, signals and exits that this one must not have."""
    return subprocess.run(
        [sys.executable, "-c", code, *args],
        cwd=Path(__file__).parent,  # it may import what is defined here
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout,
    )
