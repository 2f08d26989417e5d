"""Output and input of some size, through a sandbox's pipes and through plain ones."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from lease import OURS, job, open_pool, wait_until_steady
from measure import Contender
from peers import SUBPROCESS, Completed, completed_is, result_is, run_outside, spawn
from pytest_benchmark.fixture import BenchmarkFixture
from suite import compete

from pysandpool import SandboxConfig, SandboxPool, SandboxResult

pytestmark = pytest.mark.benchmark(group="capture")

MIB = 1024 * 1024
SIZES = [64 * 1024, MIB, 10 * MIB]
CAT = ["/bin/cat"]
ROUNDS = 50


@pytest.fixture(scope="module")
def pool() -> Iterator[SandboxPool]:
    with open_pool(2, SandboxConfig(max_output_bytes=16 * MIB)) as opened:
        yield opened


def _measure(benchmark: BenchmarkFixture, pool: SandboxPool, contender: Contender) -> None:
    compete(benchmark, contender, ROUNDS, lambda: wait_until_steady(pool))


def _flood(size: int) -> list[str]:
    return ["/usr/bin/head", "-c", str(size), "/dev/zero"]


@pytest.mark.parametrize("size", SIZES)
def test_stdout(benchmark: BenchmarkFixture, pool: SandboxPool, size: int) -> None:
    _measure(benchmark, pool, job(pool, _flood(size), bytes(size)))


@pytest.mark.parametrize("size", SIZES)
def test_stdout_subprocess(benchmark: BenchmarkFixture, pool: SandboxPool, size: int) -> None:
    _measure(benchmark, pool, spawn(_flood(size), bytes(size)))


@pytest.mark.parametrize("size", SIZES)
def test_through_cat(benchmark: BenchmarkFixture, pool: SandboxPool, size: int) -> None:
    data = bytes(size)

    def run() -> SandboxResult:
        with pool.acquire() as sandbox:
            return sandbox.execute(CAT, input=data)

    _measure(benchmark, pool, Contender(OURS, run, result_is(data)))


@pytest.mark.parametrize("size", SIZES)
def test_through_cat_subprocess(benchmark: BenchmarkFixture, pool: SandboxPool, size: int) -> None:
    data = bytes(size)

    def run() -> Completed:
        return run_outside(CAT, input=data, capture_output=True)

    _measure(benchmark, pool, Contender(SUBPROCESS, run, completed_is(data)))
