"""Whatever a tenant does, it is quiet after a timeout, a release or a close; how fast is measured by bench/quiet.py."""

from __future__ import annotations

import signal
import threading

import pytest
from eyes import alive, children
from eyes_linux import all_children
from hostile import STUBBORN
from pools import OpenPool
from waiting import Call, wait_until

from pysandpool import PooledSandbox, SandboxConfig, SandboxError

CONFIG = SandboxConfig(max_processes=32, scratch_size_mb=4, max_output_bytes=100_000)


def tree(pid: int) -> set[int]:
    found = all_children(pid)
    for child in list(found):
        found |= tree(child)
    return found


@pytest.mark.parametrize("way", STUBBORN)
def test_quiet_after_a_timeout_and_after_a_release(real_pool: OpenPool, way: str) -> None:
    pool = real_pool(CONFIG, warm=1)
    with pool.acquire() as lease:
        init = lease.pid
        result = lease.execute(STUBBORN[way], timeout=0.3)
        counted = lease.isolation.processes == "partial"  # by init, which kills a command that has more
        assert result.timed_out or (counted and result.signal == signal.SIGKILL), result
        assert not children(init), "when a timeout is reported, every process of the command is gone"
        assert lease.execute(["/bin/echo", "next"]).stdout == b"next\n"
        left = watch_and_release(lease, way)
        wait_until(lambda: not any(alive(pid) for pid in (init, *left)), "the whole sandbox is gone")
    wait_until(lambda: pool.stats().recycling_count == 0, "recycled")


def watch_and_release(lease: PooledSandbox, way: str) -> set[int]:
    """Releases while it is at it; what lived then."""
    counted = lease.isolation.processes == "partial"
    running = Call(lease.execute, STUBBORN[way])
    wait_until(lambda: children(lease.pid), "the command runs")
    threading.Event().wait(0.1)  # let it do its worst
    left = tree(lease.pid)
    lease.release()
    try:
        result = running.result()
    except SandboxError:
        return left
    assert counted, result
    assert result.signal == signal.SIGKILL, result
    return left
