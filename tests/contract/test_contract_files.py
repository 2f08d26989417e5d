"""File calls and the pool: they count as a use, and an unused lease gets another sandbox in place of a dead one."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
from agent import AgentLauncher
from eyes import children
from fake import FakeLauncher
from pools import OpenPool, assert_balanced
from waiting import wait_until

from pysandpool import PooledSandbox, PoolStateError, SandboxConfig, SandboxLostError, UnsupportedPlatformError


@pytest.fixture
def fake_pool(launcher: FakeLauncher) -> Any:
    with launcher.open(warm=1) as pool:
        yield pool


def kill(lease: PooledSandbox) -> None:
    """In the Landlock tier the standby, which serves files, too, lives on until the zygote has killed it."""
    pids = {lease.pid, *children(lease.pid)}
    os.kill(lease.pid, signal.SIGKILL)
    wait_until(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in pids), "init and its standby are dead")


def test_a_file_call_is_a_use(fake_pool: Any) -> None:
    with fake_pool.acquire() as lease:
        assert not lease.exists("file")
        with pytest.raises(FileNotFoundError):
            lease.read_file("file")
    wait_until(lambda: fake_pool.stats().recycle_count == 1, "the sandbox is replaced")
    assert_balanced(fake_pool.stats())


def test_a_dead_sandbox_of_an_unused_lease_is_replaced(real_pool: OpenPool) -> None:
    pool = real_pool(warm=1)
    with pool.acquire() as lease:
        kill(lease)
        lease.write_file("file", b"1")
        assert lease.execute(["/bin/cat", "file"]).stdout == b"1"
    assert pool.stats().lost_count == 0
    assert_balanced(pool.stats())


def test_a_sandbox_that_dies_later_is_lost(real_pool: OpenPool) -> None:
    pool = real_pool(warm=1)
    with pool.acquire() as lease:
        lease.write_file("file", b"1")
        kill(lease)
        for _ in range(2):
            with pytest.raises(SandboxLostError):
                lease.read_file("file")
        with pytest.raises(SandboxLostError):
            lease.execute(["/bin/true"])
    with pool.acquire() as lease:
        lease.write_file("file", b"1")


def test_an_outdated_sandbox_is_replaced(real_pool: OpenPool, host_dir: Path) -> None:
    shown = host_dir / "shown"
    shown.mkdir()
    (shown / "file").write_bytes(b"old")
    pool = real_pool(SandboxConfig(fs_readonly=(shown,)), warm=1)
    with pool.acquire() as lease:
        shown.rename(host_dir / "moved")
        shown.mkdir()
        (shown / "file").write_bytes(b"new")
        assert lease.read_file(shown / "file") == b"new"
    assert pool.stats().evictions.outdated == 1


def test_in_a_forked_child(real_pool: OpenPool) -> None:
    with real_pool(warm=1).acquire() as lease:
        lease.write_file("file", b"1")
        pid = os.fork()
        if pid == 0:
            try:
                lease.read_file("file")
            except PoolStateError:
                os._exit(0)
            finally:
                os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert lease.read_file("file") == b"1"


def test_agents_have_none() -> None:
    launcher = AgentLauncher()
    try:
        with launcher.open(warm=1) as pool, pool.acquire() as lease:
            with pytest.raises(UnsupportedPlatformError, match="file calls"):
                lease.read_file("file")
            assert lease.execute(["/bin/echo", "1"]).stdout == b"1\n"
    finally:
        launcher.close()
