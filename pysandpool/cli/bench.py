"""The short benchmark: how long acquire and execute take on this machine."""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter_ns

from pysandpool._config.pool import PoolConfig
from pysandpool._config.sandbox import SandboxConfig
from pysandpool._pool.acquire import lease_by_ticket
from pysandpool._pool.core import open_core
from pysandpool._pool.lease import PooledSandbox
from pysandpool._pool.limits import PoolLimits
from pysandpool._pool.pool import SandboxPool

ECHO = ("/bin/echo", "hello")
ECHO_STDOUT = b"hello\n"


@dataclass(frozen=True)
class PoolBenchmarkResult:
    """Percentiles of the duration of single calls, in microseconds, including about 50 ns of the clock itself."""

    cold_p50_us: float
    """An acquire that creates a sandbox, with a running zygote."""
    cold_p99_us: float
    hot_p50_us: float
    """An acquire of an idle sandbox."""
    hot_p99_us: float
    execute_p50_us: float
    """acquire, execute of /bin/echo and release, in a fresh sandbox each time."""
    execute_p99_us: float
    pool_size: int
    iterations: int
    tier: str = "full"
    """What isolated the sandboxes, as `IsolationReport.tier`."""


def run_pool_benchmark(
    pool_size: int = 8, iterations: int = 200, config: SandboxConfig | None = None
) -> PoolBenchmarkResult:
    """Measures calls of each kind, prints the percentiles and returns them.

    Args:
        pool_size: idle sandboxes of the pool; 0 is taken as 1.
        iterations: calls of each kind; with 0 all figures are 0.
        config: of the sandboxes; by default `SandboxConfig()`.

    Raises:
        SandboxCreateError: a sandbox could not be created.
        RuntimeError: a command exited with a code other than 0, or with another output than expected.
        ValueError: a number is negative.
    """
    result = measure_pool(pool_size, iterations, config).result()
    print(format_result(result))
    return result


@dataclass(frozen=True)
class PoolSamples:
    """The duration of each call, in microseconds."""

    cold: list[float]
    hot: list[float]
    execute: list[float]
    pool_size: int
    iterations: int
    tier: str = "full"

    def result(self) -> PoolBenchmarkResult:
        cold, hot, execute = _percentiles(self.cold), _percentiles(self.hot), _percentiles(self.execute)
        return PoolBenchmarkResult(*cold, *hot, *execute, self.pool_size, self.iterations, self.tier)


def measure_pool(pool_size: int, iterations: int, config: SandboxConfig | None = None) -> PoolSamples:
    """What `run_pool_benchmark` measures; it raises the same errors."""
    size, count = operator.index(pool_size), operator.index(iterations)
    if size < 0 or count < 0:
        raise ValueError(f"pool_size = {size}, iterations = {count}: both must be >= 0")
    size = max(size, 1)
    if not count:
        return PoolSamples([], [], [], size, 0)
    config = config or SandboxConfig()
    cold = _cold(config, count)
    with SandboxPool(config, PoolConfig(size, size, max_idle_duration=None)) as pool:
        with pool.acquire() as sandbox:
            tier = sandbox.isolation.tier
        return PoolSamples(cold, _acquire_times(pool.acquire, count), _execute_times(pool, count), size, count, tier)


def format_result(result: PoolBenchmarkResult) -> str:
    """The result as lines of text."""
    rows = (
        ("cold acquire", result.cold_p50_us, result.cold_p99_us),
        ("hot acquire", result.hot_p50_us, result.hot_p99_us),
        ("acquire + echo + release", result.execute_p50_us, result.execute_p99_us),
    )
    head = f"pool_size={result.pool_size} iterations={result.iterations} tier={result.tier}"
    return "\n".join([head] + [f"{name:<25} p50 {p50:>10.2f} us   p99 {p99:>10.2f} us" for name, p50, p99 in rows])


def _cold(config: SandboxConfig, count: int) -> list[float]:
    core = open_core(config, PoolLimits())
    try:
        return _acquire_times(lambda: lease_by_ticket(core), count)
    finally:
        core.close(5_000_000_000)


def _acquire_times(acquire: Callable[[], PooledSandbox], count: int) -> list[float]:
    times = []
    for _ in range(count):
        start = perf_counter_ns()
        lease = acquire()
        times.append((perf_counter_ns() - start) / 1e3)
        lease.release()
    return times


def _execute_times(pool: SandboxPool, count: int) -> list[float]:
    times = []
    for _ in range(count):
        start = perf_counter_ns()
        with pool.acquire() as sandbox:
            result = sandbox.execute(ECHO)
        times.append((perf_counter_ns() - start) / 1e3)
        if result.exit_code != 0 or result.stdout != ECHO_STDOUT:
            raise RuntimeError(f"{ECHO} returned {result!r}: {result.stdout!r} {result.stderr!r}")
    return times


def _percentiles(times: list[float]) -> tuple[float, float]:
    """p50 and p99, interpolated between the two nearest samples; 0 where there are none."""
    if not times:
        return 0.0, 0.0
    import statistics

    cuts = statistics.quantiles(times * 2 if len(times) == 1 else times, n=100, method="inclusive")
    return cuts[49], cuts[98]
