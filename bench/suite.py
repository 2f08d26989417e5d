"""What the pytest-benchmark suites share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from measure import Contender
from pytest_benchmark.fixture import BenchmarkFixture


def repeat(
    benchmark: BenchmarkFixture, run: Callable[[], Any], rounds: int, setup: Callable[[], None] | None = None
) -> Any:
    """One call per round; returns the last one's result."""
    pedantic: Callable[..., Any] = benchmark.pedantic
    return pedantic(run, setup=setup, rounds=rounds, warmup_rounds=3)


def compete(benchmark: BenchmarkFixture, contender: Contender, rounds: int, between: Callable[[], None]) -> None:
    """The check of each round, and the wait after it, are in the set-up of the next round, which is not timed."""
    results: list[object] = []

    def before() -> None:
        if results:
            contender.check(results.pop())
        between()

    repeat(benchmark, lambda: results.append(contender.run()), rounds, before)
    contender.check(results.pop())
