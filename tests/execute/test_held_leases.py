"""A process or a session holds its lease, which nobody else may have: pool.acquire().popen(...) is no mistake."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from subprocess import PIPE
from typing import Any

import pytest

from pysandpool import Interpreter, Sandbox, SandboxConfig, SandboxPool

pytestmark = pytest.mark.skipif("sys.platform == 'darwin'", reason="an agent starts no processes beside commands")

WITH_PYTHON = SandboxConfig(interpreter=Interpreter())


@pytest.fixture(scope="module")
def pool() -> Iterator[SandboxPool]:
    with SandboxPool(WITH_PYTHON) as pool:
        yield pool


def in_use(pool: SandboxPool) -> int:
    gc.collect()
    return pool.stats().in_use_count


@pytest.mark.parametrize("make", [SandboxPool.acquire, lambda _: Sandbox()])
def test_a_process_runs_on(pool: SandboxPool, make: Callable[[SandboxPool], Any]) -> None:
    process = make(pool).popen(["sh", "-c", "read line; echo $line"], stdin=PIPE, stdout=PIPE, text=True)
    gc.collect()
    assert process.communicate("hello\n") == ("hello\n", None)
    assert process.returncode == 0


def test_its_end_lets_go_of_the_lease(pool: SandboxPool) -> None:
    process = pool.acquire().popen(["cat"], stdin=PIPE)
    assert in_use(pool) == 1
    process.communicate(b"x")
    assert in_use(pool) == 0


def test_so_does_forgetting_it(pool: SandboxPool) -> None:
    process = pool.acquire().popen(["sleep", "600"])
    assert in_use(pool) == 1
    del process
    assert in_use(pool) == 0


@pytest.mark.parametrize("make", [SandboxPool.acquire, lambda _: Sandbox(WITH_PYTHON)])
def test_a_session_goes_on(pool: SandboxPool, make: Callable[[SandboxPool], Any]) -> None:
    session = make(pool).session()
    gc.collect()
    assert session.run("x = 1").error is None
    (copy,) = session.branch()
    del session
    gc.collect()
    assert copy.run("x + 1").text == "2"
    del copy
    assert in_use(pool) == 0


def test_a_release_ends_it_all_the_same(pool: SandboxPool) -> None:
    with pool.acquire() as lease:
        process = lease.popen(["sleep", "600"])
    assert process.wait(10) == -9
    assert in_use(pool) == 0
