"""Python threads that compute, and so compete for the GIL, while something else is measured."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter


@contextmanager
def computing(threads: int) -> Iterator[None]:
    stop = threading.Event()

    def compute() -> None:
        while not stop.is_set():
            total = 0
            for number in range(20_000):
                total += number * number

    workers = [threading.Thread(target=compute, daemon=True) for _ in range(threads)]
    for worker in workers:
        worker.start()
    try:
        yield
    finally:
        stop.set()
        for worker in workers:
            worker.join()


def count_for(seconds: float) -> float:
    """Million steps a second of this thread in a pure Python loop of that length."""
    steps = 0
    start = perf_counter()
    end = start + seconds
    while perf_counter() < end:
        for _ in range(200):
            steps += 1
    return steps / (perf_counter() - start) / 1e6
