"""`PoolStats`: the counters of a pool, all taken at one moment."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields


@dataclass(frozen=True, repr=False)
class Histogram:
    """How long something took, as counts in buckets; four buckets to an octave, from 1 µs to 134 s.

    The bounds are the same in every histogram. `later - earlier` is what came between two snapshots.
    """

    sum: float = 0.0
    """seconds, of all together"""
    buckets: tuple[tuple[float, int], ...] = ()
    """(upper bound in seconds, how many took less than it and not less than the bound before); the last bound is inf"""

    @property
    def count(self) -> int:
        """How many there were."""
        return sum(count for _, count in self.buckets)

    @property
    def mean(self) -> float:
        """Seconds; NaN when there were none."""
        count = self.count
        return self.sum / count if count else math.nan

    def percentile(self, q: float) -> float:
        """Seconds within which `q` percent (0 ... 100) were over; NaN when there were none.

        Interpolated inside the bucket, so that it is wrong by at most the bucket's width: 1 µs below 4 µs, then a
        quarter. What has no upper bound counts as the lower one. ValueError for another `q`.
        """
        if not 0 <= q <= 100:
            raise ValueError(f"q = {q!r} is not allowed: a percentage, 0 ... 100")
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
    """What takes how long, since the pool was opened."""

    acquire_wait: Histogram = Histogram()
    """of each acquire that got a lease. Those that found an idle entry look at no clock and count as 0"""
    create: Histogram = Histogram()
    """of each sandbox that was made: from the request to its READY"""
    execute: Histogram = Histogram()
    """of each command: from the request to its end, whatever that was"""
    recycle: Histogram = Histogram()
    """from the release of a used sandbox to the fresh one in its place"""


@dataclass(frozen=True, repr=False)
class Evictions:
    """Why entries left the pool. The sum is `PoolStats.evict_count`, in every snapshot."""

    age: int = 0
    """idle for longer than `max_idle_duration`"""
    capacity: int = 0
    """`max_size`: the oldest made room, or the one that was released got none"""
    health_check: int = 0
    """the health check failed"""
    death: int = 0
    """it died while it was idle"""
    failed_recycle: int = 0
    """it was released, and no fresh one could be created in its place"""
    zygote_lost: int = 0
    """it went with its zygote"""
    replaced: int = 0
    """it died before the first command of its lease, which silently got another one"""

    @property
    def total(self) -> int:
        """All of them."""
        return sum(getattr(self, field.name) for field in fields(self))

    def __repr__(self) -> str:
        found = ((field.name, getattr(self, field.name)) for field in fields(self))
        return f"Evictions({', '.join(f'{name}={count}' for name, count in found if count)})"


@dataclass(frozen=True)
class PoolStats:
    """One consistent snapshot: `created_count - evict_count == idle_count + in_use_count` holds in each.

    Attributes named `*_count` without a state in their name only grow, but for `created_count`; the others are numbers
    of now.
    """

    hit_count: int
    """acquires that took an idle or a recycling entry"""
    miss_count: int
    """acquires that had to create one"""
    evict_count: int
    """entries that left: by age, capacity, failed health check or death"""
    idle_count: int
    """entries that the next acquire can have as a hit: idle and recycling"""
    in_use_count: int
    """leases that are out"""
    created_count: int = 0
    """entries made, with those being made for an acquire: one that fails is taken back"""
    recycle_count: int = 0
    """released sandboxes that a fresh one replaced"""
    create_error_count: int = 0
    """creations that failed"""
    health_check_count: int = 0
    """health checks that were run"""
    zygote_restart_count: int = 0
    """zygotes that took the place of a dead one"""
    lost_count: int = 0
    """sandboxes that died with the outcome of a command unknown: `SandboxLostError`"""
    timeout_count: int = 0
    """commands that timed out"""
    oom_kill_count: int = 0
    """commands that the memory limit ended"""
    recycling_count: int = 0
    """those of `idle_count` that are being replaced right now"""
    starting_count: int = 0
    """entries that are being created right now, replacements not counted"""
    waiting_count: int = 0
    """acquires that wait because of `max_in_use`"""
    undead_count: int = 0
    """sandboxes that were killed more than 2 s ago and are not dead: the kernel holds a process of theirs"""
    evictions: Evictions = Evictions()
    """`evict_count` by reason"""
    latencies: Latencies = Latencies()
    """distributions of the pool's waits, in seconds"""

    @property
    def hit_rate(self) -> float:
        """Hits per acquire, 0.0 ... 1.0; 0.0 before the first one."""
        total = self.hit_count + self.miss_count
        return self.hit_count / total if total else 0.0
