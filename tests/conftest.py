"""What every test may use: pools over both backends, and eyes on the host's own state."""

from __future__ import annotations

import gc
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest
from agent import AgentLauncher
from fake import FakeLauncher, warmed

from pysandpool import PoolConfig, PooledSandbox, PoolStats, SandboxConfig, SandboxPool

LINUX = sys.platform != "darwin"
if LINUX:
    from eyes_linux import (
        alive,
        children,
        identity,
        is_standby,
        open_fds,
        reap_orphans,
        see_orphans,
        stat_fields,
        status_field,
        thread_count,
        zygote_of,
    )
else:
    from eyes_darwin import (  # noqa: F401
        alive,
        children,
        identity,
        is_standby,
        open_fds,
        reap_orphans,
        see_orphans,
        stat_fields,
        status_field,
        thread_count,
        zygote_of,
    )

OpenPool = Callable[..., SandboxPool]

# What macOS has, too. The agent's own tests need what stands for `sandbox-exec`, which confines nothing; there the real
# one does, and "real" in the contract means a pool over it.
ON_MACOS = {
    *("config", "errors", "stats", "seatbelt"),
    *("contract_acquire", "contract_construction", "contract_death", "contract_health", "contract_max_in_use"),
    *("contract_refill", "contract_release", "contract_seeing", "contract_settle", "contract_stats", "contract_warm"),
}


class OfLinux(pytest.Module):
    """A module that is not even imported here."""

    def collect(self) -> NoReturn:
        pytest.skip("of Linux: namespaces, a zygote, /proc, or a stand-in", allow_module_level=True)


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> pytest.Module | None:
    of_macos = module_path.stem.removeprefix("test_") in ON_MACOS
    return None if LINUX or of_macos else OfLinux.from_parent(parent, path=module_path)


@pytest.fixture(scope="session", autouse=True)
def _orphans_are_seen() -> None:
    see_orphans()


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


def leave_free_fds(count: int) -> None:
    """Lowers the soft limit of this process, until so many more files can be opened."""
    used, limit, free = set(open_fds()), 0, 0
    while free < count:
        free += limit not in used
        limit += 1
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))


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

    if request.param == "agent" and not LINUX:
        pytest.skip("of Linux: here the real one stands for it")

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
