"""A sandbox that does not die although it was killed: counted, logged once, and in nobody's way."""

from __future__ import annotations

import logging
import os
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from eyes import alive
from fake import FakeLauncher
from log_records import Records
from pools import OpenPool, use
from waiting import wait_until

from pysandpool import PoolStats, SandboxLostError, SandboxPool
from pysandpool._backend.undead import state_of

FREEZER = Path("/sys/fs/cgroup/freezer")


def undead(pool: SandboxPool) -> int:
    return pool.stats().undead_count


def test_counted_and_logged_once_and_again_when_it_is_over(launcher: FakeLauncher, records: Records) -> None:
    pool = launcher.open(warm=2, max_size=2)
    lease, other = pool.acquire(), pool.acquire()
    use(lease)
    pid = lease.pid
    launcher.undead()
    lease.release()
    assert undead(pool) == 0, "it is given two seconds"
    use(other)
    logged = records.wait("undead")
    assert (logged.levelno, logged.pid, logged.count) == (logging.ERROR, pid, 1)
    assert undead(pool) == 1
    assert "undead=1" in repr(pool)
    with pool.acquire() as another:
        use(another)
    wait_until(lambda: undead(pool) == 2, "the other one, too")
    launcher.undead(False)
    wait_until(lambda: undead(pool) == 0, "they are dead")
    assert records.wait("undead_ended", 2).levelno == logging.INFO
    assert len(records.of("undead")) == 2, "each is logged once"
    assert "undead" not in repr(pool)


def test_close_returns_in_time(launcher: FakeLauncher, records: Records) -> None:
    pool = launcher.open(warm=2, max_size=2)
    used, _unused = pool.acquire(), pool.acquire()
    use(used)
    launcher.undead()
    used.release()
    began = time.monotonic()
    pool.close(timeout=0.3)
    assert 0.3 <= time.monotonic() - began < 1.5
    assert not records.of("undead"), "nobody knows that so early"


def test_close_logs_it_when_there_is_time(launcher: FakeLauncher, records: Records) -> None:
    pool = launcher.open(warm=1, max_size=2)
    pid = pool.acquire().pid
    launcher.undead()
    began = time.monotonic()
    pool.close(timeout=60)
    assert time.monotonic() - began < 20, "nobody waits for one that will not die"
    assert records.wait("undead").pid == pid


def test_a_timeout_is_not_late(launcher: FakeLauncher) -> None:
    """Neither the command nor its sandbox can be killed: what became of them is not known."""
    pool = launcher.open(warm=1, max_size=2)
    with pool.acquire() as lease:
        launcher.mute(True)
        launcher.undead()
        began = time.monotonic()
        with pytest.raises(SandboxLostError):
            lease.execute(["/bin/true"], timeout=0.3)
        assert time.monotonic() - began < 8  # 2.6 s, on a machine that is not busy
        assert pool.stats().lost_count == 1
        launcher.undead(False)


def test_what_is_reported_of_its_processes() -> None:
    assert f"pid {os.getpid()}: R (running)" in state_of(os.getpid())
    assert state_of(2**22) == "its processes cannot be seen"


# --- one that the kernel itself does not let die ---------------------------------------------------------


@contextmanager
def frozen(pid: int) -> Iterator[None]:
    """A freezer of cgroup v1: what is frozen there dies by no signal before it is thawed."""
    group = FREEZER / f"pysandpool-test-{uuid.uuid4().hex}"
    try:
        group.mkdir()
    except OSError as error:
        pytest.skip(f"a freezer of cgroup v1, and root, are needed: {error}")
    state = group / "freezer.state"
    try:
        (group / "cgroup.procs").write_text(f"{pid}\n")
        state.write_text("FROZEN")
        wait_until(lambda: state.read_text() == "FROZEN\n", "frozen")
        yield
    finally:
        state.write_text("THAWED")
        wait_until(lambda: (group / "cgroup.procs").read_text() == "", "nobody is left in it")
        group.rmdir()


def counts(stats: PoolStats) -> tuple[int, int, int]:
    return stats.in_use_count, stats.idle_count, stats.undead_count


def test_a_frozen_sandbox_is_in_nobodys_way(real_pool: OpenPool, records: Records) -> None:
    pool = real_pool(warm=2, max_size=2)
    lease, other = pool.acquire(), pool.acquire()
    use(lease)
    pid = lease.pid
    with frozen(pid):
        began = time.monotonic()
        with pytest.raises(SandboxLostError):
            lease.execute(["/bin/true"], timeout=0.3)
        assert time.monotonic() - began < 8
        lease.release()
        use(other)
        logged = records.wait("undead")
        assert (logged.levelno, logged.pid) == (logging.ERROR, pid)
        assert f"pid {pid}: D" in logged.reason
        with pool.acquire() as another:
            use(another)
        wait_until(lambda: counts(pool.stats()) == (1, 1, 1), "one out, one idle, one undead")
    wait_until(lambda: undead(pool) == 0, "thawed, and dead")
    assert records.wait("undead_ended").pid == pid
    wait_until(lambda: not alive(pid), "its process is gone")


@pytest.mark.parametrize("timeout", [0.5, 5.0])
def test_a_frozen_sandbox_keeps_no_close(real_pool: OpenPool, timeout: float) -> None:
    pool = real_pool(warm=1, max_size=2)
    lease = pool.acquire()
    with frozen(lease.pid):
        began = time.monotonic()
        pool.close(timeout=timeout)
        assert time.monotonic() - began < timeout + 1.3
