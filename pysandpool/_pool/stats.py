"""`PoolStats`: the counters of a pool, all taken at one moment. Imports no other module of the package."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields


@dataclass(frozen=True, repr=False)
class Histogram:
    """A distribution of durations, as counts in buckets. There are four buckets to an octave, from 1 µs to 134 s.

    All histograms have the same bounds. `later - earlier` is the distribution between two snapshots.
    """

    sum: float = 0.0
    """The sum of all durations in seconds."""
    buckets: tuple[tuple[float, int], ...] = ()
    """For each bucket (upper bound in seconds, number of durations below it and not below the bound before). The last
    bound is inf."""

    @property
    def count(self) -> int:
        """The number of durations."""
        return sum(count for _, count in self.buckets)

    @property
    def mean(self) -> float:
        """The mean in seconds; NaN if there are no durations."""
        count = self.count
        return self.sum / count if count else math.nan

    def percentile(self, q: float) -> float:
        """The `q`-th percentile in seconds, 0 <= q <= 100; NaN if there are no durations.

        It is interpolated inside a bucket, so that its error is at most the width of the bucket: 1 µs below 4 µs, and a
        quarter of the value above. In the last bucket it is the lower bound. Raises ValueError for another `q`.
        """
        if not 0 <= q <= 100:
            raise ValueError(f"q = {q!r} is not allowed; expected: a percentage from 0 to 100")
        wanted, passed, low = self.count * q / 100, 0, 0.0
        for high, count in self.buckets:
            if count and passed + count >= wanted:
                return low if math.isinf(high) else low + (high - low) * max(0.0, wanted - passed) / count
            passed += count
            low = high
        return math.nan

    def __sub__(self, earlier: Histogram) -> Histogram:
        before = dict(earlier.buckets)
        left = tuple((bound, count - before.get(bound, 0)) for bound, count in self.buckets)
        return Histogram(self.sum - earlier.sum, left)

    def __repr__(self) -> str:
        if not self.count:
            return "Histogram(count=0)"
        marks = ", ".join(f"p{q}={self.percentile(q):.3g}" for q in (50, 99))
        return f"Histogram(count={self.count}, mean={self.mean:.3g}, {marks})"


@dataclass(frozen=True)
class Latencies:
    """How long the operations of a pool took since it was opened."""

    acquire_wait: Histogram = Histogram()
    """Acquires that returned a lease. Those that found an idle sandbox read no clock, and count as 0."""
    create: Histogram = Histogram()
    """Creations of a sandbox, from the request to its READY record."""
    execute: Histogram = Histogram()
    """Commands, from the request to the end, however the command ended."""
    recycle: Histogram = Histogram()
    """Recycles, from the release of a used sandbox until a fresh one has replaced it."""


@dataclass(frozen=True, repr=False)
class Evictions:
    """Evictions by reason. Their sum is `PoolStats.evict_count`, in every snapshot."""

    age: int = 0
    """Idle for longer than `max_idle_duration`."""
    capacity: int = 0
    """The pool had `max_size` idle sandboxes: the oldest one was evicted, or the released one was not replaced."""
    health_check: int = 0
    """The health check failed."""
    death: int = 0
    """The sandbox died while it was idle."""
    failed_recycle: int = 0
    """The sandbox was released, and no fresh one could be created to replace it."""
    zygote_lost: int = 0
    """The zygote of the sandbox died."""
    replaced: int = 0
    """The sandbox died before the first command of its lease, which was given another one."""
    outdated: int = 0
    """At the first command of the lease, a path of `fs_readonly`, `fs_readwrite` or `rootfs` led elsewhere than at the
    creation of the sandbox, or its interpreter was renewed since. The lease was given another sandbox. `renew()` evicts
    idle ones for the same reason."""
    drained: int = 0
    """`drain()` replaced the sandbox."""

    @property
    def total(self) -> int:
        """The sum of all reasons."""
        return sum(getattr(self, field.name) for field in fields(self))

    def __repr__(self) -> str:
        found = ((field.name, getattr(self, field.name)) for field in fields(self))
        return f"Evictions({', '.join(f'{name}={count}' for name, count in found if count)})"


@dataclass(frozen=True)
class PoolStats:
    """The statistics of a pool, in one consistent snapshot.

    In every snapshot `created_count - evict_count == idle_count + in_use_count`. The counts of a state (idle, in_use,
    recycling, starting, waiting, undead) are the numbers of this moment. The other counts only grow, except that
    `created_count` is decremented if a creation fails.
    """

    hit_count: int
    """Acquires that took an idle or a recycling sandbox."""
    miss_count: int
    """Acquires that had to create a sandbox."""
    evict_count: int
    """Sandboxes that were evicted; `evictions` has the reasons."""
    idle_count: int
    """Sandboxes that an acquire can take without creating one: idle and recycling."""
    in_use_count: int
    """Leases that are in use."""
    hit_ready_count: int = 0
    """Hits that took an idle sandbox."""
    hit_waited_count: int = 0
    """Hits that took a recycling sandbox, and waited until it was replaced by a fresh one. `hit_count` is the sum of
    these two."""
    created_count: int = 0
    """Sandboxes that were created, including those being created for an acquire."""
    recycle_count: int = 0
    """Released sandboxes that were replaced by a fresh one."""
    create_error_count: int = 0
    """Creations that failed."""
    health_check_count: int = 0
    """Health checks that were run."""
    zygote_restart_count: int = 0
    """Zygotes that replaced a dead one."""
    lost_count: int = 0
    """Sandboxes that died while a command may have been running: `SandboxLostError`."""
    timeout_count: int = 0
    """Commands that timed out."""
    oom_kill_count: int = 0
    """Commands that the memory limit ended."""
    recycling_count: int = 0
    """Sandboxes that are being replaced now; `idle_count` includes them."""
    starting_count: int = 0
    """Sandboxes that are being created now, without those that replace a released one."""
    waiting_count: int = 0
    """Acquires that wait because of `max_in_use`, or of `drain()`."""
    undead_count: int = 0
    """Sandboxes that were killed more than 2 s ago and are still not dead, because the kernel keeps a process alive."""
    evictions: Evictions = Evictions()
    """`evict_count` by reason."""
    latencies: Latencies = Latencies()
    """How long acquires, creations, commands and recycles took."""

    @property
    def hit_rate(self) -> float:
        """Hits divided by acquires, from 0.0 to 1.0; 0.0 before the first acquire."""
        total = self.hit_count + self.miss_count
        return self.hit_count / total if total else 0.0
