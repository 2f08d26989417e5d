"""resize(): the bounds of a pool change while it is in use."""

from __future__ import annotations

import random
from typing import Any

import pytest
from fake import FakeLauncher
from pools import OpenPool, assert_balanced, use, wait_idle
from waiting import Call, wait_until

from pysandpool import InvalidPoolConfigError, PoolConfig, PoolStateError


def test_a_smaller_pool_keeps_the_newest(open_pool: OpenPool) -> None:
    pool = open_pool(warm=4, max_size=4)
    with pool.acquire() as lease:
        newest = lease.pid
    pool.resize(0, 1)
    stats = pool.stats()
    assert (stats.idle_count, stats.evictions.capacity) == (1, 3)
    assert_balanced(stats)
    with pool.acquire() as lease:
        assert lease.pid == newest


def test_a_larger_pool_is_refilled(open_pool: OpenPool) -> None:
    pool = open_pool(warm=1, max_size=1)
    pool.resize(3, 4)
    assert pool.settle(20)
    assert pool.idle_len() == 3
    assert pool.warm(9) == 1
    pool.resize(0, 4)
    assert pool.settle(20)
    assert pool.idle_len() == 4
    assert_balanced(pool.stats())


def test_pool_config_has_the_new_sizes(open_pool: OpenPool) -> None:
    pool = open_pool(warm=1, max_size=2, max_in_use=5)
    before = pool.pool_config
    pool.resize(1, 3)
    assert pool.pool_config == PoolConfig(1, 3, before.max_idle_duration, max_in_use=5)
    pool.close()
    assert pool.pool_config.max_size == 3


@pytest.mark.parametrize(
    ("min_size", "max_size"), [(3, 2), (0, 0), (-1, 2), (1, 16_001), (1.5, 2), ("1", 2), (1, None)]
)
def test_wrong_sizes_are_refused(open_pool: OpenPool, min_size: Any, max_size: Any) -> None:
    pool = open_pool(warm=1, max_size=2)
    with pytest.raises(InvalidPoolConfigError) as refused:
        pool.resize(min_size, max_size)
    assert (refused.value.min_size, refused.value.max_size) == (min_size, max_size)
    assert (pool.pool_config.max_size, pool.idle_len()) == (2, 1)


def test_a_closed_pool_cannot_be_resized(open_pool: OpenPool) -> None:
    pool = open_pool(warm=1, max_size=2)
    pool.close()
    with pytest.raises(PoolStateError):
        pool.resize(1, 2)


def test_leases_come_back_to_a_smaller_pool(open_pool: OpenPool) -> None:
    pool = open_pool(warm=3, max_size=3)
    leases = [pool.acquire() for _ in range(3)]
    use(leases[0])
    pool.resize(0, 1)
    for lease in leases:
        lease.release()
        assert pool.idle_len() == 1
        assert_balanced(pool.stats())
    wait_idle(pool, 1)


def test_a_size_below_what_is_being_recycled(launcher: FakeLauncher) -> None:
    with launcher.open(warm=4, max_size=4) as pool:
        leases = [pool.acquire() for _ in range(4)]
        with launcher.held():
            for lease in leases:
                use(lease)
                lease.release()
            wait_until(lambda: pool.stats().recycling_count == 4, "all are recycling")
            pool.resize(0, 2)
            assert (pool.stats().recycling_count, pool.stats().evictions.capacity) == (2, 2)
        wait_idle(pool, 2)
        assert pool.settle(20)
        assert launcher.live == 2
        assert_balanced(pool.stats())


def test_many_threads_resize_and_use_a_pool(launcher: FakeLauncher) -> None:
    with launcher.open(warm=4, max_size=4) as pool:

        def resize(seed: int) -> None:
            chance = random.Random(seed)
            for _ in range(150):
                max_size = chance.randint(1, 6)
                pool.resize(chance.randint(0, max_size), max_size)
                assert_balanced(pool.stats())

        def work(seed: int) -> None:
            chance = random.Random(seed)
            for _ in range(150):
                with pool.acquire() as lease:
                    if chance.random() < 0.5:
                        use(lease)

        for call in [Call(resize, 1), Call(resize, 2), *(Call(work, seed) for seed in range(3))]:
            call.result(60)
        pool.resize(1, 2)
        assert pool.settle(20)
        assert 1 <= pool.idle_len() <= 2
        assert launcher.live == pool.idle_len()
        assert_balanced(pool.stats())
