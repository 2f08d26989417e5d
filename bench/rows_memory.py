"""The memory that an idle sandbox takes, in user space and in the kernel, whichever process it is charged to."""

from __future__ import annotations

import time
from pathlib import Path

from lease import wait_until_steady
from measure import Distribution, expect
from row import Bench, Budget, Effort, Row

from pysandpool import PoolConfig, SandboxConfig, SandboxPool

ALIVE = 1000
STEADY_BYTES = 256 * 1024
STEADY_LIMIT = 15.0


def used_bytes() -> int:
    """All memory that is neither free nor file cache. MemAvailable would call a live sandbox's inodes and dentries
    free, because slab of their kind can be reclaimed, and would move with other programs' files."""
    fields = {}
    for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
        name, value = line.split(":")
        fields[name] = int(value.split()[0]) * 1024
    file_cache = fields["Buffers"] + fields["Cached"] - fields["Shmem"]
    return fields["MemTotal"] - fields["MemFree"] - file_cache


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
    """KB for each sandbox, including the memory of the zygote and of the pool."""
    config = PoolConfig(min_size=0, max_size=ALIVE, max_idle_duration=None)
    before = _steady()
    with SandboxPool(SandboxConfig(), config) as pool:
        inserted = pool.warm(ALIVE)
        wait_until_steady(pool)
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
            note="what is neither free nor file cache on the whole machine, before and after; zygote and host counted",
        )
    ]


BENCHES = (Bench(("idle_memory",), idle_memory),)
