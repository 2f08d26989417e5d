"""asyncio over threads: the recipe of docs/operating.md, and what happens without it."""

from __future__ import annotations

import asyncio
import re
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from pools import OpenPool

from pysandpool import AcquireTimeoutError, PooledSandbox, SandboxPool, SandboxResult

OPERATING = Path(__file__).parents[2] / "docs" / "operating.md"


def run(pool: SandboxPool, cmd: list[str]) -> SandboxResult:
    with pool.acquire(timeout=60) as lease:
        return lease.execute(cmd, timeout=10)


def test_the_page_has_this_function() -> None:
    (block,) = re.findall(r"### asyncio\n.*?```python\n(.*?)```", OPERATING.read_text(), re.DOTALL)
    assert "    with pool.acquire(timeout=60) as lease:\n        return lease.execute(cmd, timeout=10)\n" in block


@pytest.mark.parametrize("threads", [2, 8])
def test_fifty_jobs_share_two_leases(real_pool: OpenPool, threads: int) -> None:
    pool = real_pool(warm=2, max_in_use=2)

    async def main() -> list[SandboxResult]:
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(threads) as executor:
            jobs = [loop.run_in_executor(executor, run, pool, ["/bin/echo", str(n)]) for n in range(50)]
            return await asyncio.gather(*jobs)

    assert [int(result.stdout) for result in asyncio.run(main())] == list(range(50))
    assert pool.stats().in_use_count == 0


def test_acquires_alone_use_up_the_threads_and_a_timeout_says_so(real_pool: OpenPool) -> None:
    """Two leases, two threads: both wait in acquire, and none is left to run a command or a release."""
    pool = real_pool(warm=2, max_in_use=2)

    async def main() -> float:
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(2) as executor:
            leases: list[PooledSandbox] = [await loop.run_in_executor(executor, pool.acquire) for _ in range(2)]
            waiting = [loop.run_in_executor(executor, pool.acquire, 0.5) for _ in range(2)]
            start = time.monotonic()
            await loop.run_in_executor(executor, leases[0].execute, ["/bin/true"])
            delay = time.monotonic() - start
            for found in await asyncio.gather(*waiting, return_exceptions=True):
                assert isinstance(found, AcquireTimeoutError)
        return delay

    assert asyncio.run(main()) > 0.4
