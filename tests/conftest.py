"""The fixtures of all tests: pools over every backend; and which modules are collected on macOS."""

from __future__ import annotations

import gc
import logging
import shutil
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest
from agent import AgentLauncher
from eyes import LINUX, see_orphans
from fake import FakeLauncher, warmed
from log_records import Records
from orphans import reap_all
from pools import OpenPool

from pysandpool import NamespaceDegradation, PoolConfig, PooledSandbox, SandboxConfig, SandboxPool
from pysandpool._backend.machine import kernel_version

pytest_plugins = ["full_tier", "older_kernels", "parallel", "selection"]

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


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Many tests call gc.collect(). It shall not look at the thousands of collected tests each time: `unfrozen`."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.collect()
        gc.freeze()


@pytest.fixture(scope="module")
def unfrozen() -> Iterator[None]:
    """An application that has frozen nothing: only then is a lease found again that an interrupted acquire has lost."""
    gc.unfreeze()
    yield
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def _orphans_are_seen() -> None:
    see_orphans()


@pytest.fixture(scope="module", autouse=True)
def _orphans_are_reaped() -> Iterator[None]:
    """What came to this process so far: every look at /proc would meet it again."""
    yield
    reap_all()


@pytest.fixture
def launcher() -> Iterator[FakeLauncher]:
    with FakeLauncher() as fake:
        yield fake


_SLOW_BACKENDS = [pytest.param(name, marks=pytest.mark.slow) for name in ("agent", "landlock")]


@pytest.fixture(params=["fake", "real", *_SLOW_BACKENDS])
def open_pool(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[OpenPool]:
    """Opens pools over the backend of this run, see `warmed`; closes them at the end."""
    pools: list[SandboxPool] = []
    launchers: list[FakeLauncher | AgentLauncher] = []

    if request.param in {"agent", "landlock"} and not LINUX:
        pytest.skip("of Linux: here the real one stands for it")
    if request.param == "landlock" and kernel_version() < (5, 13):
        pytest.skip("this kernel has no Landlock")
    config = None
    if request.param == "landlock":
        monkeypatch.setenv("PYSANDPOOL_TIER", "landlock")
        config = SandboxConfig(namespace_degradation=NamespaceDegradation.ALLOW_DEGRADATION)

    def open_one(*, warm: int = 0, **fields: Any) -> SandboxPool:
        if request.param in {"real", "landlock"}:
            pool = warmed(lambda pool_config: SandboxPool(config, pool_config), warm, fields)
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


@pytest.fixture
def lease(pool: SandboxPool) -> Iterator[PooledSandbox]:
    """A lease of the pool that the fixture `pool` of the test's own file has opened."""
    with pool.acquire() as lease:
        yield lease


@pytest.fixture(params=["/tmp", "/var/tmp"])
def host_dir(request: pytest.FixtureRequest) -> Iterator[Path]:
    """A directory of the host that an unprivileged uid may read and write, below /tmp and elsewhere."""
    path = Path(tempfile.mkdtemp(prefix="sandpool-test-", dir=request.param))
    path.chmod(0o777)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def records() -> Iterator[Records]:
    handler = Records()
    logger = logging.getLogger("pysandpool")
    logger.addHandler(handler)
    before = logger.level
    logger.setLevel(logging.DEBUG)
    yield handler
    logger.setLevel(before)
    logger.removeHandler(handler)
