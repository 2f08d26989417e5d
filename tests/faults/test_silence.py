"""Inits, zygotes and hosts that are stopped: every call keeps its deadline, and what is stopped can still be ended."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from eyes import alive, children, stat_fields, zygote_of
from eyes_linux import all_children
from full_tier import head_of_scripts, refusal
from host_state import HostState
from pools import OpenPool, use
from scripts import SUPPORT
from waiting import Call, wait_until

from pysandpool import (
    NamespaceDegradation,
    PoolConfig,
    PooledSandbox,
    SandboxConfig,
    SandboxError,
    SandboxLostError,
    SandboxPool,
    Workspace,
)
from pysandpool._backend.machine import kernel_version

# From the deadline of a command to the end of its sandbox, when init does not answer: 2.3 s; and a loaded machine.
PATIENCE = 15.0


@contextmanager
def stopped(*pids: int) -> Iterator[None]:
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    for pid in pids:
        wait_until(lambda pid=pid: (stat_fields(pid) or "T")[0] in "TtZX", "stopped")
    try:
        yield
    finally:
        for pid in pids:
            if alive(pid):
                os.kill(pid, signal.SIGCONT)


def used(pool: SandboxPool) -> PooledSandbox:
    """A lease that has run a command, and is ready for the next: its standby is there."""
    lease = pool.acquire()
    use(lease)
    wait_until(lambda: all_children(lease.pid), "a standby")
    return lease


def times_out(lease: PooledSandbox, *command: str) -> bool:
    """Or the sandbox is lost: in the Landlock tier nobody but init can say that the command has ended."""
    try:
        timed_out: bool = within(lambda: lease.execute(command, timeout=0.2)).timed_out
    except SandboxLostError:
        return refusal() != ""
    return timed_out


def within(call: Callable[[], Any], seconds: float = PATIENCE) -> Any:
    return Call(call).result(seconds)


def test_execute_keeps_its_deadline_when_init_is_stopped(real_pool: OpenPool) -> None:
    """The command itself runs to its end, but nobody reports it."""
    pool = real_pool(warm=1)
    lease = used(pool)
    with stopped(lease.pid):
        assert times_out(lease, "/bin/echo", "hello")
    with pytest.raises(SandboxLostError):
        lease.execute(["/bin/true"])
    lease.release()
    assert within(lambda: pool.acquire().execute(["/bin/echo", "on"])).stdout == b"on\n"


def test_execute_keeps_its_deadline_when_nothing_of_the_sandbox_runs(real_pool: OpenPool) -> None:
    """The standby, too: the request is not even read."""
    pool = real_pool(warm=1)
    lease = used(pool)
    pid = lease.pid
    with stopped(pid, *all_children(pid)):
        assert times_out(lease, "/bin/true")
    lease.release()
    wait_until(lambda: not alive(pid), "it was ended")


def test_a_request_larger_than_the_socket_keeps_the_deadline(real_pool: OpenPool) -> None:
    """Sending it waits for somebody who reads."""
    pool = real_pool(warm=1)
    lease = used(pool)
    with stopped(lease.pid, *all_children(lease.pid)):
        words = ["x" * 100_000] * 12
        start = time.monotonic()
        result = within(lambda: lease.execute(["/bin/true", *words], timeout=0.2))
        assert result.timed_out
        assert time.monotonic() - start < 8, "not the ten seconds that a send may take"


def test_the_other_calls_do_not_wait_for_an_init(real_pool: OpenPool) -> None:
    pool = real_pool(warm=3, max_size=3, max_idle_duration=None)
    leases = [pool.acquire() for _ in range(3)]
    pids = [lease.pid for lease in leases]
    use(leases[0])
    with stopped(*pids):
        assert within(pool.stats, 5).in_use_count == 3
        within(leases[0].release, 5)
        within(leases[1].release, 5)  # unused: idle again
        within(lambda: pool.acquire(timeout=1).release(), 5)
        assert within(lambda: pool.warm(2), 10) >= 0
        within(pool.close, 10)
        wait_until(lambda: not any(alive(pid) for pid in pids), "killed as they were")


def test_release_and_close_end_an_execute_on_a_stopped_init(real_pool: OpenPool) -> None:
    for end in ("release", "close"):
        pool = real_pool(warm=1)
        lease = used(pool)
        with stopped(lease.pid):
            running = Call(lease.execute, ["/bin/sleep", "60"], timeout=60)
            wait_until(lambda lease=lease: children(lease.pid), "the command runs")
            (lease if end == "release" else pool).__getattribute__(end)()
            with pytest.raises(Exception, match=r"released|closed"):
                running.result(10)


@pytest.mark.parametrize("tier", [pytest.param("full", marks=pytest.mark.namespaces), "landlock"])
def test_a_stopped_init_is_ended_by_a_release(real_pool: OpenPool, tier: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the Landlock tier the host asks an init to end, and kills it only when it does not."""
    if tier == "landlock":
        if kernel_version() < (5, 13):
            pytest.skip("this kernel has no Landlock")
        monkeypatch.setenv("PYSANDPOOL_TIER", tier)
    pool = real_pool(SandboxConfig(namespace_degradation=NamespaceDegradation.ALLOW_DEGRADATION), warm=1)
    lease = used(pool)
    assert lease.isolation.tier == tier
    processes = [lease.popen(["/bin/sleep", "60"]) for _ in range(3)]
    pid = lease.pid
    tenants = children(pid)
    assert len(tenants) == len(processes)
    with stopped(pid):
        lease.release()
        wait_until(lambda: not any(alive(one) for one in (pid, *tenants)), "killed as it was", 30)


def test_a_stopped_zygote_is_ended_by_close() -> None:
    before = HostState()
    pool = SandboxPool(None, PoolConfig(min_size=2, max_idle_duration=None))
    lease = pool.acquire()
    zygote = zygote_of(lease)
    with stopped(zygote):
        assert lease.execute(["/bin/echo", "on"]).stdout == b"on\n", "what exists works on"
        Call(pool.close, 0.2).result(10)
        wait_until(lambda: not alive(zygote), "killed")
    del pool, lease
    before.assert_restored()


HOST = """
import time
from eyes import zygote_of
from pysandpool import PoolConfig, SandboxPool

pool = SandboxPool(None, PoolConfig(min_size=2))
lease, other = pool.acquire(), pool.acquire()
print(zygote_of(lease), lease.pid, other.pid, flush=True)
while True:
    lease.execute(["/bin/true"])
"""


@pytest.fixture
def host() -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", head_of_scripts() + HOST], stdout=subprocess.PIPE, text=True, cwd=SUPPORT
    ) as process:
        yield process
        process.kill()


def printed_pids(host: subprocess.Popen[str]) -> list[int]:
    assert host.stdout is not None
    return [int(word) for word in host.stdout.readline().split()]


def test_a_stopped_host_goes_on(host: subprocess.Popen[str]) -> None:
    pids = printed_pids(host)
    for _ in range(5):
        host.send_signal(signal.SIGSTOP)
        time.sleep(0.05)
        assert all(alive(pid) for pid in pids)
        host.send_signal(signal.SIGCONT)
    assert host.poll() is None
    host.send_signal(signal.SIGSTOP)
    host.kill()
    host.wait()
    wait_until(lambda: not any(alive(pid) for pid in pids), "they end with it")


def test_a_dead_hosts_stopped_sandboxes_end_with_their_zygote(host: subprocess.Popen[str]) -> None:
    zygote, *inits = printed_pids(host)
    with stopped(*inits):
        host.kill()
        host.wait()
        wait_until(lambda: not any(alive(pid) for pid in (zygote, *inits)), "stopped or not")


def test_a_dead_hosts_stopped_zygote_ends_once_it_goes_on(host: subprocess.Popen[str]) -> None:
    pids = printed_pids(host)
    with stopped(pids[0]):
        host.kill()
        host.wait()
        assert alive(pids[0]), "nobody is left who could end it"
    wait_until(lambda: not any(alive(pid) for pid in pids), "gone")


def lives(lease: PooledSandbox) -> bool:
    return lease.execute(["/bin/echo", "x"]).stdout == b"x\n"


def test_what_was_stopped_and_goes_on_is_as_before(real_pool: OpenPool) -> None:
    pool = real_pool(warm=2, max_idle_duration=None)
    lease = pool.acquire()
    for pid in (lease.pid, zygote_of(lease)):
        with stopped(pid):
            waiting = Call(lives, lease)
            time.sleep(0.02)
        assert waiting.result()
        assert lives(lease)


def creates_while_attaching(pool: SandboxPool, workspace: Workspace) -> bool:
    """Whether a sandbox is created while the attaching to a stopped one waits."""
    with pool.acquire() as unused:
        pid = unused.pid
    with stopped(pid, *all_children(pid)):
        attach = Call(lambda: pool.acquire(workspace=workspace))
        wait_until(lambda: pool.stats().in_use_count, "it has the sandbox")
        with pool.acquire() as other:
            use(other)
        was_attaching = not attach.done
        refused = None
        try:
            attach.result(PATIENCE).release()  # the pool had another sandbox, of which nothing is stopped
        except SandboxError as error:
            refused = error.errno
    assert refused in (None, errno.ETIMEDOUT)
    return was_attaching and refused is not None


@pytest.mark.namespaces("workspaces")
def test_attaching_to_a_stopped_sandbox_holds_up_no_creation(real_pool: OpenPool, tmp_path: Path) -> None:
    """The zygote serves others while an init does not send its namespaces, and gives the attaching up after 2 s."""
    tmp_path.chmod(0o755)
    pool, workspace = real_pool(warm=1), Workspace(tmp_path, "ro")
    # On a loaded machine a creation may take as long by itself.
    assert any(creates_while_attaching(pool, workspace) for _ in range(4))
    with pool.acquire(workspace=workspace) as lease:
        use(lease)
    assert pool.stats().in_use_count == 0
