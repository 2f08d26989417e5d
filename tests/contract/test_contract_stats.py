"""Contract, row "stats": one consistent snapshot, whatever goes on."""

from __future__ import annotations

import dataclasses
import gc
import random
import re
import threading
import time
from collections.abc import Callable

import pytest
from eyes import zygote_of
from fake import FakeLauncher
from pools import OpenPool, assert_balanced, use
from scripts import run_script
from waiting import Call, wait_until

from pysandpool import AcquireTimeoutError, PooledSandbox, PoolStats, SandboxCreateError, SandboxLostError, SandboxPool


def test_fields(open_pool: OpenPool) -> None:
    pool = open_pool(warm=1, max_size=2)
    stats = pool.stats()
    assert isinstance(stats, PoolStats)
    assert (stats.hit_count, stats.miss_count, stats.evict_count) == (0, 0, 0)
    assert (stats.idle_count, stats.in_use_count) == (1, 0)
    with pytest.raises(dataclasses.FrozenInstanceError):
        stats.hit_count = 5  # type: ignore[misc]
    with pool.acquire():
        assert stats.in_use_count == 0, "a snapshot does not move"
        assert pool.stats() != stats


def test_idle_len_counts_idle_and_recycling(launcher: FakeLauncher) -> None:
    with launcher.open(warm=2, max_size=2) as pool:
        with launcher.held():
            with pool.acquire() as lease:
                use(lease)
            assert pool.idle_len() == pool.stats().idle_count == 2
            wait_until(lambda: pool.stats().recycling_count == 1, "recycling")
            assert pool.idle_len() == 2
        wait_until(lambda: pool.stats().recycling_count == 0, "recycled")
        assert pool.idle_len() == 2


def test_repr_shows_the_state(open_pool: OpenPool) -> None:
    pool = open_pool(warm=2, max_size=3)
    with pool.acquire() as lease:
        assert str(lease.pid) in repr(lease)
        now = "idle=1 in_use=1 recycling=0 starting=0 waiting=0 hits=1 waited=0 misses=0"
        assert re.fullmatch(rf"<SandboxPool pool=\d+ {now} zygote=\d+>", repr(pool))
    pool.close()
    assert re.fullmatch(r"<SandboxPool pool=\d+ closed>", repr(pool))


def test_repr_names_the_zygote(real_pool: OpenPool) -> None:
    pool = real_pool(warm=1)
    with pool.acquire() as lease:
        assert f"zygote={zygote_of(lease)}>" in repr(pool)


REPR_IN_A_CHILD = """
import os
from fake import FakeLauncher
with FakeLauncher() as launcher, launcher.open(warm=1) as pool:
    child = os.fork()
    if child == 0:
        print(os.getppid(), os.getpid(), repr(pool), flush=True)
        os._exit(0)
    os.waitpid(child, 0)
"""


def test_repr_in_a_forked_child() -> None:
    done = run_script(REPR_IN_A_CHILD)
    parent, child, text = done.stdout.strip().split(" ", 2)
    assert f"unusable: the pool belongs to process {parent}, this is its child {child}: open a pool in" in text, done
    assert "post_fork" in text


class Load:
    """Many threads that use a pool in all ways, and one that looks at every snapshot."""

    def __init__(self, pool: SandboxPool, seconds: float, disturb: Callable[[random.Random], None] | None) -> None:
        self.pool = pool
        self.end = time.monotonic() + seconds
        self.disturb = disturb
        self.snapshots = 0
        self.acquired = 0
        self.lock = threading.Lock()

    def sample(self) -> None:
        last = self.pool.stats()
        while time.monotonic() < self.end:
            stats = self.pool.stats()
            assert_balanced(stats)
            assert stats.idle_count <= self.pool.pool_config.max_size, stats
            assert stats.recycling_count <= stats.idle_count, stats
            assert stats.hit_ready_count + stats.hit_waited_count == stats.hit_count, stats
            for name in ("hit_ready_count", "hit_waited_count", "miss_count", "evict_count", "recycle_count"):
                assert getattr(stats, name) >= getattr(last, name), (name, last, stats)
            last = stats
            self.snapshots += 1

    def work(self, seed: int) -> None:
        chance = random.Random(seed)
        kept: list[PooledSandbox] = []
        while time.monotonic() < self.end:
            try:
                self.step(chance, kept)
            except (SandboxCreateError, AcquireTimeoutError, SandboxLostError):
                kept.clear()
        kept.clear()

    def step(self, chance: random.Random, kept: list[PooledSandbox]) -> None:
        turn = chance.random()
        if turn < 0.03:
            self.pool.warm(chance.randrange(8))
        elif turn < 0.06 and self.disturb is not None:
            self.disturb(chance)
        elif turn < 0.3 and kept:
            lease = kept.pop(chance.randrange(len(kept)))
            if chance.random() < 0.5:
                lease.release()
                lease.release()
        else:
            lease = self.pool.acquire(timeout=chance.choice([0, 0.005, 0.05]))
            with self.lock:
                self.acquired += 1
            if chance.random() < 0.5:
                use(lease)
            if chance.random() < 0.6 or len(kept) > 3:
                lease.release()
            else:
                kept.append(lease)

    def run(self, threads: int) -> None:
        calls = [Call(self.sample)] + [Call(self.work, seed) for seed in range(threads)]
        for call in calls:
            call.result(60)
        gc.collect()
        assert self.snapshots > 100
        assert self.acquired > 100
        wait_until(lambda: self.pool.stats().in_use_count == 0, "all leases back")
        wait_until(lambda: self.pool.stats().recycling_count + self.pool.stats().starting_count == 0, "at rest")
        stats = self.pool.stats()
        assert_balanced(stats)
        assert stats.waiting_count == 0
        # A timeout counts nowhere and is no acquire; a failed creation is a miss, but no acquire either.
        assert stats.hit_count + stats.miss_count >= self.acquired


@pytest.mark.slow
@pytest.mark.parametrize("max_in_use", [None, 5])
def test_balance_under_load_with_failures(launcher: FakeLauncher, max_in_use: int | None) -> None:
    with launcher.open(
        min_size=2, max_size=4, max_in_use=max_in_use, max_idle_duration=0.05, health_check_interval=3
    ) as pool:
        launcher.delay(0.0003)

        def disturb(chance: random.Random) -> None:
            what = chance.randrange(3)
            if what == 0:
                launcher.fail(chance.randrange(4), skip=chance.randrange(3))
            elif what == 1:
                launcher.health(chance.randrange(2))
            else:
                with pool.acquire(timeout=5) as lease:
                    launcher.kill(lease.pid)

        Load(pool, 3, disturb).run(6)
        launcher.fail(0)
        launcher.health(0)
        wait_until(lambda: launcher.live == pool.stats().idle_count, "no fake sandbox is forgotten")
        assert pool.stats().evict_count > 0
        assert pool.stats().create_error_count > 0
    assert launcher.live == 0


@pytest.mark.slow
def test_balance_under_load(real_pool: OpenPool) -> None:
    pool = real_pool(warm=2, max_size=4, max_in_use=6, max_idle_duration=0.2, health_check_interval=5)
    Load(pool, 4, None).run(4)
    stats = pool.stats()
    assert stats.create_error_count == 0
    assert stats.hit_count > 0
    assert stats.recycle_count > 0
