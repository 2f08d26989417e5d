"""Jobs per second of several threads, for contenders that take turns block by block."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from measure import Contender, expect


@dataclass
class Rates:
    """What one contender did."""

    per_second: list[float] = field(default_factory=list)
    """jobs per second, of each block"""
    latencies: list[float] = field(default_factory=list)
    """seconds, of each job"""


def rates_at_once(
    contenders: Sequence[Contender], threads: int, count: int, blocks: int, between: Callable[[], None]
) -> dict[str, Rates]:
    """By name. In a block, each of `threads` threads does `count` jobs of one contender; then comes `between`."""
    rates = {contender.name: Rates() for contender in contenders}
    for _ in range(blocks):
        for contender in contenders:
            _block(contender, threads, count, rates[contender.name])
            between()
    return rates


def _block(contender: Contender, threads: int, count: int, rates: Rates) -> None:
    before = len(rates.latencies)

    def work() -> None:
        for _ in range(count):
            start = time.perf_counter()
            result = contender.run()
            rates.latencies.append(time.perf_counter() - start)
            contender.check(result)

    workers = [threading.Thread(target=work) for _ in range(threads)]
    start = time.perf_counter()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    elapsed = time.perf_counter() - start
    expect(len(rates.latencies) - before == threads * count, f"a thread of {contender.name} raised")
    rates.per_second.append(threads * count / elapsed)
