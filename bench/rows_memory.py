"""What an idle sandbox costs the machine: user and kernel memory, whoever it is charged to."""

from __future__ import annotations

import time
from pathlib import Path

from lease import settle
from measure import Distribution, expect
from row import Bench, Budget, Effort, Row

from pysandpool import PoolConfig, SandboxConfig, SandboxPool

ALIVE = 1000
STEADY_BYTES = 256 * 1024
STEADY_LIMIT = 15.0


def used_bytes() -> int:
    """MemTotal - MemAvailable, plus the slab that MemAvailable counts as free because it could be reclaimed:
    the inodes and dentries of a live sandbox's mounts cannot."""
    fields = {}
    for line in Path("/proc/meminfo").read_text().splitlines():
        name, value = line.split(":")
        fields[name] = int(value.split()[0]) * 1024
    return fields["MemTotal"] - fields["MemAvailable"] + fields["KReclaimable"]


def _steady() -> int:
    """Waits for frees that the kernel defers (RCU, per-cpu lists), then reads."""
    deadline = time.monotonic() + STEADY_LIMIT
    last = used_bytes()
    while True:
        time.sleep(0.5)
        now = used_bytes()
        if abs(now - last) < STEADY_BYTES or time.monotonic() > deadline:
            return now
        last = now


def _one_round() -> float:
    """KB per sandbox; the zygote's and the pool's own memory are in it."""
    config = PoolConfig(min_size=0, max_size=ALIVE, max_idle_duration=None)
    before = _steady()
    with SandboxPool(SandboxConfig(), config) as pool:
        inserted = pool.warm(ALIVE)
        settle(pool)
        expect(inserted == ALIVE and pool.idle_len() == ALIVE, f"{inserted} warmed, {pool.idle_len()} idle")
        after = _steady()
    return (after - before) / ALIVE / 1000


def idle_memory(effort: Effort) -> list[Row]:
    samples = Distribution.of([_one_round() for _ in range(effort.samples(5, 3))])
    return [
        Row(
            name="idle_memory",
            figure=f"memory per idle sandbox, {ALIVE:,} alive, median",
            unit="KB",
            value=samples.p50,
            budget=Budget("value", "<=", 150.0),
            samples=samples,
            note="the whole machine's memory before and after, reclaimable slab, zygote and host counted",
        )
    ]


BENCHES = (Bench(("idle_memory",), idle_memory),)
