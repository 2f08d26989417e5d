"""acquire + release of an idle sandbox: from Python, from C, under GIL pressure, and with many idle."""

from __future__ import annotations

from compute import computing
from core import time_core
from lease import acquire_batch, acquire_singles, empty_singles, open_pool
from measure import Contender, Distribution, interleave
from row import Bench, Budget, Effort, Row

BATCH = 1000
COMPUTE_THREADS = 3
FEW_IDLE = 10
MANY_IDLE = 1000


def hot(effort: Effort) -> list[Row]:
    """p50 from batches, the tail from single operations."""
    with open_pool(4) as pool:
        acquire_batch(pool, BATCH)
        per_op = Distribution.of([acquire_batch(pool, BATCH) for _ in range(effort.samples(300, 50))])
        singles = Distribution.of(acquire_singles(pool, effort.samples(200_000, 20_000)))
        empty = Distribution.of(empty_singles(effort.samples(200_000, 20_000)))
    return [
        Row(
            name="acquire",
            figure="`with pool.acquire(): pass`, p50",
            unit="s",
            value=per_op.p50,
            budget=Budget("value", "<=", 1e-6),
            samples=singles,
            note=f"p50 of {per_op.n} batches of {BATCH}; the distribution is of single timed operations, of "
            f"which the clock and an empty `with` are {empty.p50 * 1e9:.0f} ns",
        )
    ]


def in_c(effort: Effort) -> list[Row]:
    batches = effort.samples(3000, 500)
    times = Distribution.of(time_core(idle=16, batches=batches, batch=BATCH))
    few, many = (Distribution.of(time_core(idle, batches, BATCH)).p50 for idle in (FEW_IDLE, MANY_IDLE))
    return [
        Row(
            name="acquire_c",
            figure="acquire + release in C, p50",
            unit="s",
            value=times.p50,
            budget=Budget("value", "<=", 60e-9),
            samples=times,
            note=f"batches of {BATCH}, 16 idle; with {FEW_IDLE} idle {few * 1e9:.1f} ns, "
            f"with {MANY_IDLE} {many * 1e9:.1f} ns",
        )
    ]


def busy(effort: Effort) -> list[Row]:
    """If acquire released the GIL, each one would wait for a switch interval of the computing threads."""
    ours: list[float] = []
    empty: list[float] = []
    with open_pool(4) as pool, computing(COMPUTE_THREADS):
        for _ in range(effort.samples(40, 10)):
            ours += acquire_singles(pool, 5_000)
            empty += empty_singles(5_000)
    samples = Distribution.of(ours)
    return [
        Row(
            name="acquire_busy",
            figure=f"the same while {COMPUTE_THREADS} Python threads compute, p99",
            unit="s",
            value=samples.p99,
            budget=Budget("value", "<=", 5e-6),
            samples=samples,
            baseline=Distribution.of(empty).p99,
            against="an empty `with`",
            note="the maximum is the interpreter's own switch of threads, which an empty `with` meets too",
        )
    ]


def many_idle(effort: Effort) -> list[Row]:
    with open_pool(FEW_IDLE) as few, open_pool(MANY_IDLE) as many:
        times = interleave(
            [
                Contender("few", lambda: acquire_batch(few, BATCH), lambda _: None),
                Contender("many", lambda: acquire_batch(many, BATCH), lambda _: None),
            ],
            effort.samples(500, 100),
            between=lambda: None,
        )
    samples = Distribution.of([seconds / BATCH for seconds in times["many"]])
    return [
        Row(
            name="acquire_1000",
            figure=f"acquire + release with {MANY_IDLE:,} idle, p50",
            unit="s",
            value=samples.p50,
            budget=Budget("ratio", "<=", 1.2),
            samples=samples,
            baseline=Distribution.of(times["few"]).p50 / BATCH,
            against=f"{FEW_IDLE} idle",
            note=f"batches of {BATCH}",
        )
    ]


BENCHES = (
    Bench(("acquire",), hot),
    Bench(("acquire_c",), in_c),
    Bench(("acquire_busy",), busy),
    Bench(("acquire_1000",), many_idle),
)
