"""A host of `account.py`: does its jobs whenever it reads a line, and answers with the seconds of processor time of
all commands in sandboxes so far."""

from __future__ import annotations

import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from lease import OURS, job, open_pool, wait_until_steady
from peers import ECHO, ECHO_OUT, spawn

POOL_SIZE = 8


def _times(run: Callable[[], float], count: int) -> float:
    return sum(run() for _ in range(count))


def main() -> None:
    name, threads, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    pool = open_pool(POOL_SIZE) if name == OURS else None
    contender = job(pool, ECHO, ECHO_OUT) if pool is not None else spawn(ECHO, ECHO_OUT)

    def run() -> float:
        result = contender.run()
        contender.check(result)
        return result.user_time + result.system_time if pool is not None else 0.0

    seconds = 0.0
    with ThreadPoolExecutor(threads) as executor:
        print(seconds, flush=True)
        for _ in sys.stdin:
            seconds += sum(executor.map(_times, [run] * threads, [count] * threads))
            if pool is not None:
                wait_until_steady(pool)
            print(seconds, flush=True)
    if pool is not None:
        pool.close()


if __name__ == "__main__":
    main()
