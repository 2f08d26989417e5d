"""Contract, row "construction": warm to min_size, in parallel; a failure leaves nothing behind."""

from __future__ import annotations

import errno
import time

import pytest
from eyes import alive
from fake import FakeLauncher, stages
from host_state import HostState
from pools import OpenPool, assert_balanced
from scripts import run_script

from pysandpool import PoolConfig, SandboxConfig, SandboxCreateError, SandboxPool


@pytest.mark.parametrize("min_size", [0, 1, 5])
def test_warms_to_min_size(open_pool: OpenPool, min_size: int) -> None:
    pool = open_pool(min_size=min_size, max_size=8)
    stats = pool.stats()
    assert (stats.idle_count, stats.in_use_count) == (min_size, 0)
    assert (stats.hit_count, stats.miss_count, stats.evict_count) == (0, 0, 0)
    assert pool.idle_len() == min_size
    assert_balanced(stats)


def test_what_is_warm_is_alive(real_pool: OpenPool) -> None:
    pool = real_pool(min_size=3)
    leases = [pool.acquire() for _ in range(3)]
    pids = {lease.pid for lease in leases}
    assert len(pids) == 3
    assert all(alive(pid) for pid in pids)
    assert (pool.stats().hit_count, pool.stats().miss_count) == (3, 0)


def test_creates_no_more_than_min_size(launcher: FakeLauncher) -> None:
    with launcher.open(min_size=4, max_size=16) as pool:
        assert (launcher.created, launcher.live) == (4, 4)
        assert pool.stats().created_count == 4


def test_warms_in_parallel(launcher: FakeLauncher) -> None:
    launcher.delay(0.3)
    start = time.monotonic()
    with launcher.open(min_size=12, max_size=16):
        elapsed = time.monotonic() - start
    assert elapsed >= 0.3
    assert elapsed < 0.3 * 12 / 2


@pytest.mark.parametrize("skip", [0, 2])
@pytest.mark.parametrize("stage", sorted(set(stages()) - {"none"}))
def test_failure_at_each_stage_leaves_nothing(launcher: FakeLauncher, stage: str, skip: int) -> None:
    before = HostState()
    launcher.fail(skip=skip, stage=stage, err=errno.EOVERFLOW)
    with pytest.raises(SandboxCreateError) as raised:
        launcher.open(min_size=3, max_size=4)
    assert (raised.value.stage, raised.value.errno) == (stage, errno.EOVERFLOW)
    assert stage in str(raised.value)
    assert "EOVERFLOW" in str(raised.value)
    assert launcher.live == 0
    before.assert_restored()


def test_real_failure_leaves_nothing() -> None:
    before = HostState()
    missing = "/var/tmp/sandpool-test-that-is-not-there"
    with pytest.raises(SandboxCreateError) as raised:
        SandboxPool(SandboxConfig(fs_readonly=(missing,)), PoolConfig(min_size=2))
    error = raised.value
    assert (error.stage, error.errno) == ("bind", errno.ENOENT)
    assert missing in str(error)
    assert error.hint
    before.assert_restored()


def test_failure_with_sandboxes_already_made_leaves_nothing() -> None:
    """The limit of open files stops the warming half-way."""
    done = run_script(
        """
from host_state import HostState, leave_free_fds
from pysandpool import *

before = HostState()
leave_free_fds(40)
for _ in range(20):
    try:
        SandboxPool(None, PoolConfig(min_size=100, max_size=100))
    except SandboxCreateError as error:
        print(error.errno, "RLIMIT_NOFILE" in str(error))
before.assert_restored()
with SandboxPool(None, PoolConfig(min_size=4)) as pool:
    assert pool.idle_len() == 4
"""
    )
    assert done.stderr == ""
    assert done.stdout.splitlines() == [f"{errno.EMFILE} True"] * 20
