"""Thousands of cycles leave no fd, process, thread, mount, zombie or memory behind, and neither does any failure."""

from __future__ import annotations

import ctypes
import gc
import os
import threading
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from eyes import open_fds, stat_fields, status_field, thread_count, zygote_of
from eyes_linux import all_children
from fake import FakeLauncher
from host_state import HostState
from pools import OpenPool, assert_balanced, wait_idle
from waiting import Call, wait_until

from pysandpool import (
    PoolConfig,
    PooledSandbox,
    Sandbox,
    SandboxConfig,
    SandboxCreateError,
    SandboxError,
    SandboxPool,
)

CYCLES = 5_000
THREADS = 4
MIB = 1 << 20


def resident(pid: int | str) -> int:
    """Bytes of memory of a process that are its own. What the allocator merely keeps is given back before."""
    if pid == "self":
        gc.collect()
        with suppress(AttributeError):  # musl has none
            ctypes.CDLL(None).malloc_trim(0)
    return int(status_field(pid, "RssAnon").split()[0]) * 1024


def mount_count(pid: int | str) -> int:
    """Mounts that a process sees; -1 where this user may not look (a zygote is undumpable)."""
    try:
        return len(Path(f"/proc/{pid}/mountinfo").read_text().splitlines())
    except PermissionError:
        return -1


def fd_count(pid: int) -> int:
    """-1 where this user may not look."""
    try:
        return len(os.listdir(f"/proc/{pid}/fd"))
    except PermissionError:
        return -1


def zombies() -> set[int]:
    """Among the children of this process and of its zygotes. One look: earlier tests left orphans here."""
    names = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    seen = {pid: fields for pid in names if (fields := stat_fields(pid)) is not None}
    parents = {os.getpid()} | {pid for pid, fields in seen.items() if int(fields[1]) == os.getpid()}
    return {pid for pid, fields in seen.items() if fields[0] == "Z" and int(fields[1]) in parents}


@dataclass(frozen=True)
class Footprint:
    """All that 5,000 cycles must leave as it was."""

    fds: int
    threads: int
    host_mounts: int
    zygote_mounts: int
    sandboxes: int
    zombies: int

    @classmethod
    def of(cls, zygote: int) -> Footprint:
        gc.collect()
        return cls(
            fds=len(open_fds()),
            threads=thread_count(),
            host_mounts=mount_count("self"),
            zygote_mounts=mount_count(zygote),
            sandboxes=len(all_children(zygote)),
            zombies=len(zombies()),
        )


def cycle(pool: SandboxPool, count: int) -> None:
    for _ in range(count):
        with pool.acquire() as sandbox:
            result = sandbox.execute(["/bin/echo", "hello"])
            assert (result.stdout, result.exit_code) == (b"hello\n", 0)


def settled(pool: SandboxPool, zygote: int, idle: int) -> Footprint:
    """Once the janitor and the zygote have ended what was released."""
    wait_idle(pool, idle)
    assert pool.settle(60)
    wait_until(lambda: len(all_children(zygote)) == idle, "only the idle sandboxes are left")
    looks = [Footprint.of(zygote)]

    def rests() -> bool:
        """What earlier tests left to other threads may still go."""
        looks.append(Footprint.of(zygote))
        return looks[-1] == looks[-2]

    wait_until(rests, "two looks in a row see the same")
    return looks[-1]


def assert_no_more(now: Footprint, before: Footprint) -> None:
    """Fewer fds are no leak: what an earlier test's exception still held may go meanwhile."""
    assert now == replace(before, fds=now.fds)
    assert now.fds <= before.fds


@pytest.mark.timeout(150)
def test_cycles_leave_nothing(real_pool: OpenPool) -> None:
    pool = real_pool(warm=THREADS, max_size=THREADS, max_idle_duration=None)
    with pool.acquire() as lease:
        zygote = zygote_of(lease)
    for call in [Call(cycle, pool, 150) for _ in range(THREADS)]:
        call.result(60)
    idle = pool.idle_len()
    before = settled(pool, zygote, idle)
    memory = {pid: resident(pid) for pid in ("self", zygote)}
    zygote_fds = fd_count(zygote)
    assert before.sandboxes == idle

    for call in [Call(cycle, pool, CYCLES // THREADS) for _ in range(THREADS)]:
        call.result(120)

    pool.warm(idle)
    assert_no_more(settled(pool, zygote, idle), before)
    assert fd_count(zygote) - zygote_fds < 50, "the stash of network namespaces breathes"
    stats = pool.stats()
    assert_balanced(stats)
    assert stats.hit_count + stats.miss_count == 1 + THREADS * 150 + CYCLES
    for pid, bytes_before in memory.items():
        assert resident(pid) - bytes_before < 2 * MIB, "less than 420 bytes a cycle, whatever it is"


def test_the_footprint_sees_a_leak(real_pool: OpenPool) -> None:
    """Control: one fd, one thread, one zombie and three sandboxes more are seen."""
    pool = real_pool(warm=1)
    with pool.acquire() as lease:
        zygote = zygote_of(lease)
    before = settled(pool, zygote, 1)
    enough = threading.Event()
    thread = Call(enough.wait)
    fd = os.open("/dev/null", os.O_RDONLY)
    pid = os.posix_spawn("/bin/true", ["true"], {})
    try:
        wait_until(lambda: pid in zombies(), "a zombie")
        one_more = replace(before, fds=before.fds + 1, threads=before.threads + 1, zombies=before.zombies + 1)
        assert Footprint.of(zygote) == one_more
        pool.warm(4)
        assert Footprint.of(zygote).sandboxes == before.sandboxes + 3
        # Two each, of which what an earlier test left to another thread may hide some by going now.
        assert Footprint.of(zygote).fds > one_more.fds
    finally:
        os.close(fd)
        os.waitpid(pid, 0)
        enough.set()
    thread.result()


def misbehave(sandbox: PooledSandbox, turn: int) -> None:
    """One of several ways to fail."""
    way = turn % 6
    if way == 0:
        with pytest.raises(SandboxError):
            sandbox.execute(["no-such-command"])
    elif way == 1:
        with pytest.raises(SandboxError):
            sandbox.execute(["/bin/true"], cwd="/no/such")
    elif way == 2:
        assert sandbox.execute(["/bin/sleep", "60"], timeout=0.002).timed_out
    elif way == 3:
        with pytest.raises(SandboxError):
            sandbox.execute(["/bin/true", "x" * 200_000])
    elif way == 4:
        sandbox.execute(["/bin/sh", "-c", "setsid sleep 60 & kill -9 $$"])
    else:
        running = Call(sandbox.execute, ["/bin/cat"], input=b"x" * 5_000_000)
        sandbox.release()
        with suppress(SandboxError):
            running.result()


@pytest.mark.timeout(120)
def test_failures_leave_nothing(real_pool: OpenPool) -> None:
    pool = real_pool(warm=2, max_size=2, max_idle_duration=None)
    with pool.acquire() as lease:
        zygote = zygote_of(lease)

    def run(turns: int) -> None:
        for turn in range(turns):
            with pool.acquire() as sandbox:
                misbehave(sandbox, turn)

    run(30)
    before = settled(pool, zygote, 2)
    memory = resident("self")
    run(300)
    assert_no_more(settled(pool, zygote, 2), before)
    # 50 inputs of 5 MB went through; malloc's arenas of the threads that wrote them may keep a few.
    assert resident("self") - memory < 20 * MIB


def test_failed_constructors_leave_nothing() -> None:
    missing = SandboxConfig(fs_readonly=("/var/tmp/sandpool-test-that-is-not-there",))

    def fail(times: int) -> None:
        for _ in range(times):
            with pytest.raises(SandboxCreateError):
                SandboxPool(missing, PoolConfig(min_size=3))

    fail(5)
    before = HostState()
    others = zombies()
    mounts, memory = mount_count("self"), resident("self")
    fail(60)
    before.assert_restored()
    assert zombies() <= others, "what other tests left may end meanwhile"
    assert mount_count("self") == mounts
    assert resident("self") - memory < 2 * MIB


def test_failed_warm_ups_leave_nothing() -> None:
    """The zygote is well; a sandbox that others were made beside fails."""

    def fail(times: int) -> None:
        for turn in range(times):
            with FakeLauncher() as launcher:
                launcher.fail(skip=turn % 5)
                with pytest.raises(SandboxCreateError):
                    launcher.open(min_size=5)
                assert launcher.live == 0

    fail(5)
    before = HostState()
    memory = resident("self")
    fail(200)
    before.assert_restored()
    assert resident("self") - memory < 2 * MIB


def test_pools_leave_nothing() -> None:
    def live(times: int) -> None:
        for turn in range(times):
            pool = SandboxPool(None, PoolConfig(min_size=2, max_size=2))
            lease = pool.acquire()
            if turn % 2:
                lease.execute(["/bin/true"]).check()
            if turn % 3:
                pool.close()
            del pool, lease

    live(5)
    before = HostState()
    others = zombies()
    memory = resident("self")
    live(60)
    before.assert_restored(20)
    assert zombies() <= others, "what other tests left may end meanwhile"
    assert resident("self") - memory < 2 * MIB


def test_single_sandboxes_leave_nothing() -> None:
    config = SandboxConfig(env_vars={"FOR": "this test"})

    def live(times: int) -> None:
        for turn in range(times):
            sandbox = Sandbox(config)
            sandbox.execute(["/bin/true"]).check()
            if turn % 2:
                sandbox.destroy()
            del sandbox

    live(20)
    before = HostState()
    others = zombies()
    memory = resident("self")
    live(300)
    before.assert_restored()
    assert zombies() <= others, "what other tests left may end meanwhile"
    assert resident("self") - memory < 2 * MIB
