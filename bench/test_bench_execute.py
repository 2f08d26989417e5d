"""One echo: in a fresh sandbox of the pool, again on the same lease, and outside any sandbox."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from lease import job, open_pool, wait_until_steady
from measure import Contender
from peers import BWRAP, ECHO, ECHO_OUT, bare, bwrap, bwrap_works, result_is, spawn
from pytest_benchmark.fixture import BenchmarkFixture
from suite import compete

from pysandpool import SandboxPool

pytestmark = pytest.mark.benchmark(group="execute")

ROUNDS = 300


@pytest.fixture(scope="module")
def pool() -> Iterator[SandboxPool]:
    with open_pool(4) as opened:
        yield opened


def _measure(benchmark: BenchmarkFixture, pool: SandboxPool, contender: Contender) -> None:
    compete(benchmark, contender, ROUNDS, lambda: wait_until_steady(pool))


def test_pool(benchmark: BenchmarkFixture, pool: SandboxPool) -> None:
    _measure(benchmark, pool, job(pool, ECHO, ECHO_OUT))


def test_same_lease(benchmark: BenchmarkFixture, pool: SandboxPool) -> None:
    with pool.acquire() as sandbox:
        _measure(benchmark, pool, Contender("same lease", lambda: sandbox.execute(ECHO), result_is(ECHO_OUT)))


def test_pool_timeout(benchmark: BenchmarkFixture, pool: SandboxPool) -> None:
    _measure(benchmark, pool, job(pool, ECHO, ECHO_OUT, 10.0))


def test_subprocess(benchmark: BenchmarkFixture, pool: SandboxPool) -> None:
    _measure(benchmark, pool, spawn(ECHO, ECHO_OUT))


def test_subprocess_timeout(benchmark: BenchmarkFixture, pool: SandboxPool) -> None:
    _measure(benchmark, pool, spawn(ECHO, ECHO_OUT, 10.0))


def test_bare_spawn(benchmark: BenchmarkFixture, pool: SandboxPool) -> None:
    _measure(benchmark, pool, bare(ECHO, ECHO_OUT))


@pytest.mark.skipif(not bwrap_works(), reason=f"{BWRAP} is not installed or cannot make namespaces here")
def test_bwrap(benchmark: BenchmarkFixture, pool: SandboxPool) -> None:
    (contender,) = bwrap(ECHO, ECHO_OUT)
    _measure(benchmark, pool, contender)
