"""A host with threads: how much a running job slows the others down, and how many jobs a second four threads do."""

from __future__ import annotations

import threading
import time
from typing import Any

from at_once import rates_at_once
from compute import count_for
from lease import OURS, job, open_pool, wait_until_steady
from measure import Contender, Distribution, expect
from peers import ECHO, ECHO_OUT, SUBPROCESS, spawn
from row import Bench, Budget, Effort, Row

JOB_SECONDS = 0.3
HEAD_START = 0.05  # the job runs by then
WINDOW = 0.2
SLEEP = ["/bin/sleep", str(JOB_SECONDS)]
SPIN = ["/bin/sh", "-c", "while :; do :; done & sleep 0.3; kill $!"]

THREADS = 4
POOL_SIZE = 8


def _rate_beside(contender: Contender) -> float:
    """This thread's speed while another one waits for the contender's job."""
    results: list[Any] = []
    other = threading.Thread(target=lambda: results.append(contender.run()))
    other.start()
    time.sleep(HEAD_START)
    rate = count_for(WINDOW)
    expect(other.is_alive(), f"the job of {contender.name} ended before its window")
    other.join()
    expect(len(results) == 1, f"{contender.name} raised")
    contender.check(results[0])
    return rate


def thread_speed(effort: Effort) -> list[Row]:
    alone = Contender("alone", lambda: time.sleep(JOB_SECONDS), lambda _: None)
    with open_pool(2) as pool:
        contenders = {
            "alone": alone,
            "ours": job(pool, SLEEP, b""),
            "ours, spinning": job(pool, SPIN, b""),
            "theirs, spinning": spawn(SPIN, b""),
        }
        rates: dict[str, list[float]] = {name: [] for name in contenders}
        for _ in range(effort.samples(25, 4)):
            for name, contender in contenders.items():
                rates[name].append(_rate_beside(contender))
                wait_until_steady(pool)
    p50 = {name: Distribution.of(values).p50 for name, values in rates.items()}
    spinning = [p50[name] / p50["alone"] for name in ("ours, spinning", "theirs, spinning")]
    return [
        Row(
            name="thread_speed",
            figure="another Python thread's speed while a job runs",
            unit="M loops/s",
            value=p50["ours"],
            budget=Budget("ratio", ">=", 0.95),
            samples=Distribution.of(rates["ours"]),
            baseline=p50["alone"],
            against="no job",
            note=f"the job sleeps; with one that spins {spinning[0]:.2f}, and {spinning[1]:.2f} when it is "
            f"{SUBPROCESS}'s: what the machine's cores leave",
        )
    ]


def jobs(effort: Effort) -> list[Row]:
    """The contenders run blocks of jobs in turn; recycling is part of the block."""
    count = effort.samples(250, 100)
    with open_pool(POOL_SIZE) as pool:
        contenders = [job(pool, ECHO, ECHO_OUT), spawn(ECHO, ECHO_OUT)]
        rates = rates_at_once(contenders, THREADS, count, effort.samples(20, 4), lambda: wait_until_steady(pool))
        stats = pool.stats()
    return [
        Row(
            name="jobs",
            figure=f"jobs per second, {THREADS} threads, echo, a fresh sandbox each",
            unit="jobs/s",
            value=Distribution.of(rates[OURS].per_second).p50,
            budget=Budget("ratio", ">=", 0.65),
            samples=Distribution.of(rates[OURS].latencies),
            samples_unit="s",
            baseline=Distribution.of(rates[SUBPROCESS].per_second).p50,
            against=f"{SUBPROCESS} on {THREADS} threads",
            note=f"blocks of {THREADS} x {count}; pool of {POOL_SIZE}, {stats.hit_count} hits, "
            f"{stats.miss_count} misses; the distribution is of single jobs",
        )
    ]


BENCHES = (
    Bench(("thread_speed",), thread_speed),
    Bench(("jobs",), jobs),
)
