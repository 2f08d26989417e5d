"""What tests do with pools and say of them."""

from __future__ import annotations

from collections.abc import Callable

from waiting import wait_until

from pysandpool import PooledSandbox, PoolStats, SandboxPool

OpenPool = Callable[..., SandboxPool]


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


def idle_pids(pool: SandboxPool) -> set[int]:
    """The inits of all idle sandboxes, which stay unused."""
    leases = [pool.acquire() for _ in range(pool.idle_len())]
    pids = {lease.pid for lease in leases}
    for lease in leases:
        lease.release()
    return pids
