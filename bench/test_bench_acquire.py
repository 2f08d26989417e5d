"""acquire + release of an idle sandbox."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from lease import open_pool
from pytest_benchmark.fixture import BenchmarkFixture

from pysandpool import SandboxPool

pytestmark = pytest.mark.benchmark(group="acquire")


@pytest.fixture(scope="module")
def pool() -> Iterator[SandboxPool]:
    with open_pool(10) as opened:
        yield opened


def test_acquire_release(benchmark: BenchmarkFixture, pool: SandboxPool) -> None:
    def once() -> None:
        with pool.acquire():
            pass

    misses = pool.stats().miss_count
    benchmark(once)
    assert pool.stats().miss_count == misses


def test_acquire_ten(benchmark: BenchmarkFixture, pool: SandboxPool) -> None:
    """Ten leases at a time, where the pool has ten."""

    def once() -> None:
        leases = [pool.acquire() for _ in range(10)]
        for lease in leases:
            lease.release()

    misses = pool.stats().miss_count
    benchmark(once)
    assert pool.stats().miss_count == misses
