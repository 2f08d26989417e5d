"""`PoolStats`: the counters of a pool, all taken at one moment."""

from __future__ import annotations

from dataclasses import dataclass, fields


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
    evictions: Evictions = Evictions()
    """`evict_count` by reason"""

    @property
    def hit_rate(self) -> float:
        """Hits per acquire, 0.0 ... 1.0; 0.0 before the first one."""
        total = self.hit_count + self.miss_count
        return self.hit_count / total if total else 0.0
