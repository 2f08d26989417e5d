"""With only the zygote running: one sandbox is created, used once and destroyed."""

from __future__ import annotations

import pytest
from measure import rest
from peers import BWRAP, TRUE, bare, bwrap, bwrap_works, spawn
from pytest_benchmark.fixture import BenchmarkFixture
from rows_execute import one_off
from suite import compete, repeat

from pysandpool import PoolConfig, Sandbox, SandboxConfig, SandboxPool

pytestmark = pytest.mark.benchmark(group="cold")

ROUNDS = 200


def test_sandbox(benchmark: BenchmarkFixture) -> None:
    compete(benchmark, one_off(SandboxConfig()), ROUNDS, rest)


def test_create_destroy(benchmark: BenchmarkFixture) -> None:
    repeat(benchmark, lambda: Sandbox().destroy(), ROUNDS, rest)


def test_open_pool(benchmark: BenchmarkFixture) -> None:
    """The zygote's start and template, and one sandbox."""

    def once() -> None:
        with SandboxPool(SandboxConfig(), PoolConfig(min_size=1, max_size=1)) as pool:
            assert pool.idle_len() == 1

    repeat(benchmark, once, 20, rest)


def test_subprocess(benchmark: BenchmarkFixture) -> None:
    compete(benchmark, spawn(TRUE, b""), ROUNDS, rest)


def test_bare_spawn(benchmark: BenchmarkFixture) -> None:
    compete(benchmark, bare(TRUE, b""), ROUNDS, rest)


@pytest.mark.skipif(not bwrap_works(), reason=f"{BWRAP} is not installed or cannot make namespaces here")
def test_bwrap(benchmark: BenchmarkFixture) -> None:
    (contender,) = bwrap(TRUE, b"")
    compete(benchmark, contender, ROUNDS, rest)
