"""The measurement: contenders take turns sample by sample, and every sample is checked outside of its timing."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter_ns
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # its worker threads would spin on a core that is being measured
import numpy as np

ORDER_SEED = 2


class WrongSampleError(AssertionError):
    """The exit code, the output or the counters of a sample are wrong, so that its time means nothing."""


def expect(ok: bool, what: object) -> None:
    """Raises `WrongSampleError` unless `ok`; unlike `assert`, also under `python -O`."""
    if not ok:
        raise WrongSampleError(f"{what}")


@dataclass(frozen=True)
class Distribution:
    """Percentiles of `n` samples, in the unit of the samples."""

    n: int
    p50: float
    p95: float
    p99: float
    max: float

    @classmethod
    def of(cls, samples: Sequence[float]) -> Distribution:
        expect(len(samples) > 0, "no samples")
        p50, p95, p99, top = np.percentile(np.asarray(samples, dtype=np.float64), [50, 95, 99, 100])
        return cls(len(samples), float(p50), float(p95), float(p99), float(top))


def rest() -> None:
    """Waits until what a sample has left behind, such as a dying sandbox, is gone."""
    time.sleep(0.002)


@dataclass(frozen=True)
class Contender:
    """One way to do the job. Only `run` is timed; `check` raises if its result is wrong."""

    name: str
    run: Callable[[], Any]
    check: Callable[[Any], None]


def _sample(contender: Contender) -> int:
    start = perf_counter_ns()
    result = contender.run()
    elapsed = perf_counter_ns() - start
    contender.check(result)
    return elapsed


def interleave(
    contenders: Sequence[Contender], rounds: int, between: Callable[[], None], warmup: int = 3
) -> dict[str, list[float]]:
    """Seconds per sample by contender name; each round runs every contender once, in a shuffled order.

    `between` runs after every sample of every contender, so that all samples start from the same state of the machine,
    and none pays for what another one has left behind.
    """
    order = random.Random(ORDER_SEED)
    times: dict[str, list[float]] = {contender.name: [] for contender in contenders}
    for index in range(-warmup, rounds):
        for contender in order.sample(contenders, len(contenders)):
            elapsed = _sample(contender)
            between()
            if index >= 0:
                times[contender.name].append(elapsed / 1e9)
    return times
