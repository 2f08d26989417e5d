"""`await lease.execute(...)` on each event loop: results, streams, errors."""

from __future__ import annotations

import asyncio
import math
import time
import tracemalloc
from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Any

import anyio
import pytest
from loops import each_loop
from waiting import wait_until

from pysandpool import (
    AsyncPooledSandbox,
    AsyncSandboxPool,
    CommandFailedError,
    CommandNotFoundError,
    PoolConfig,
    SandboxError,
    SandboxLostError,
    SandboxReleasedError,
)

MIB = 1 << 20
Test = Callable[[AsyncPooledSandbox], Coroutine[Any, Any, None]]


def on_each_loop(test: Test) -> Callable[[str], None]:
    """Makes a test of a lease one of each loop."""

    async def main() -> None:
        async with AsyncSandboxPool(None, PoolConfig(min_size=1)) as pool:
            async with pool.acquire() as lease:
                await test(lease)
            stats = await pool.stats()
            assert stats.in_use_count == 0

    return each_loop(test, main)


@on_each_loop
async def test_a_result_has_everything(lease: AsyncPooledSandbox) -> None:
    result = await lease.execute(["/bin/sh", "-c", "cat; echo err >&2; exit 3"], input=b"data")
    assert (result.stdout, result.stderr, result.exit_code, result.signal) == (b"data", b"err\n", 3, None)
    assert result.elapsed > 0
    with pytest.raises(CommandFailedError):
        await lease.execute(["/bin/false"], check=True)
    text = await lease.execute(["/bin/cat"], input="häuser", text=True)
    assert text.stdout == "häuser"
    env = await lease.execute(["/bin/sh", "-c", 'echo "$A$PWD"'], env={"A": "b"}, cwd="/", text=True)
    assert env.stdout == "b/\n"
    cut = await lease.execute(["/bin/echo", "abcdef"], max_output_bytes=3)
    assert cut.stdout == b"abc"
    assert cut.stdout_truncated


@on_each_loop
async def test_megabytes_come_and_go(lease: AsyncPooledSandbox) -> None:
    data = bytes(range(256)) * (4 * MIB // 256)
    result = await lease.execute(["/bin/cat"], input=data, max_output_bytes=math.inf)
    assert result.stdout == data
    flood = await lease.execute(["/bin/sh", "-c", "head -c 20000000 /dev/zero; head -c 20000000 /dev/zero >&2"])
    assert len(flood.stdout) == len(flood.stderr) == 4 * MIB
    assert flood.stdout_truncated
    assert flood.stderr_truncated


@on_each_loop
async def test_a_timeout_is_a_result(lease: AsyncPooledSandbox) -> None:
    start = time.monotonic()
    result = await lease.execute(["/bin/sh", "-c", "echo before; sleep 60"], timeout=timedelta(milliseconds=200))
    assert result.timed_out
    assert result.stdout == b"before\n"
    assert time.monotonic() - start < 5
    assert (await lease.execute(["/bin/echo", "after"])).stdout == b"after\n"


@on_each_loop
async def test_errors_are_those_of_the_synchronous_call(lease: AsyncPooledSandbox) -> None:
    with pytest.raises(CommandNotFoundError):
        await lease.execute(["/no/such"])
    with pytest.raises(SandboxError, match="cwd"):
        await lease.execute(["/bin/true"], cwd="/no/such")
    with pytest.raises(TypeError, match="sequence"):
        await lease.execute("ls")  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="on_stdout and on_stderr must be functions"):
        await lease.execute(["/bin/true"], on_stdout=3)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="unexpected keyword"):
        await lease.execute(["/bin/true"], tiemout=3)  # type: ignore[call-overload]
    with pytest.raises(ValueError, match="max_output_bytes"):
        await lease.execute(["/bin/true"], max_output_bytes=-1)
    with pytest.raises(UnicodeDecodeError):
        await lease.execute(["/bin/printf", "\\377"], text=True)
    assert (await lease.execute(["/bin/true"])).ok


@on_each_loop
async def test_output_comes_as_it_is_written(lease: AsyncPooledSandbox) -> None:
    script = "echo one; read x; echo two >&2; sleep 0.1; echo three"
    pieces: list[tuple[str, bytes]] = []

    async def out(piece: bytes) -> None:
        await anyio.sleep(0.01)
        pieces.append(("out", piece))

    def err(piece: bytes) -> None:
        pieces.append(("err", piece))

    result = await lease.execute(["/bin/sh", "-c", script], input=b"\n", on_stdout=out, on_stderr=err)
    assert b"".join(piece for name, piece in pieces if name == "out") == b"one\nthree\n" == result.stdout
    assert ("err", b"two\n") in pieces
    assert result.stderr == b"two\n"
    texts: list[str] = []
    found = await lease.execute(["/bin/printf", "\\303\\244\\r\\n"], text=True, on_stdout=texts.append)
    assert "".join(texts) == "ä\n" == found.stdout


@on_each_loop
async def test_a_slow_function_holds_the_command_up(lease: AsyncPooledSandbox) -> None:
    """It writes 64 MiB; while the function sleeps, it gets no further than its pipe and our buffer, 1 MiB each."""
    size = 64 * MIB
    seen = 0

    async def out(piece: bytes) -> None:
        nonlocal seen
        if not seen:
            await anyio.sleep(0.3)
            written = await_written()
            assert written <= 2 * MIB
        seen += len(piece)
        assert len(piece) <= 2 * MIB

    def await_written() -> int:
        # What the tenant has written so far, from the counters that the kernel keeps for it.
        for pid in descendants_of(lease.pid):
            try:
                with open(f"/proc/{pid}/comm") as comm:
                    if comm.read().strip() != "head":
                        continue
                with open(f"/proc/{pid}/io") as io:
                    return int(dict(line.split(": ") for line in io.read().splitlines())["wchar"])
            except OSError:
                continue
        return 0

    tracemalloc.start()
    result = await lease.execute(["/usr/bin/head", "-c", str(size), "/dev/zero"], on_stdout=out, max_output_bytes=0)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert seen == size
    assert result.stdout == b""
    assert peak < 12 * MIB


def descendants_of(pid: int) -> set[int]:
    from eyes_linux import descendants

    return descendants(pid)


@on_each_loop
async def test_a_function_that_raises_ends_the_command(lease: AsyncPooledSandbox) -> None:
    async def raising(piece: bytes) -> None:
        await anyio.sleep(0)
        raise LookupError(piece)

    def at_once(piece: bytes) -> None:
        raise LookupError(piece)

    for function in (raising, at_once):
        start = time.monotonic()
        with pytest.raises(LookupError):
            await lease.execute(
                ["/bin/sh", "-c", "echo x; echo y >&2; sleep 60"], on_stdout=function, on_stderr=function
            )
        assert time.monotonic() - start < 10
        with pytest.raises(LookupError):  # the command has ended before the function is called
            await lease.execute(["/bin/echo", "x"], on_stdout=function)
        assert (await lease.execute(["/bin/echo", "fine"])).stdout == b"fine\n"


@on_each_loop
async def test_a_function_cannot_execute_in_its_own_sandbox(lease: AsyncPooledSandbox) -> None:
    tasks: list[Any] = []

    async def nested(piece: bytes) -> None:
        with pytest.raises(SandboxError, match="cannot execute another one"):
            await lease.execute(["/bin/true"])
        tasks.append(piece)

    assert (await lease.execute(["/bin/echo", "x"], on_stdout=nested)).ok
    assert tasks == [b"x\n"]
    assert (await lease.execute(["/bin/true"])).ok


@on_each_loop
async def test_tasks_on_one_lease_take_turns(lease: AsyncPooledSandbox) -> None:
    order: list[int] = []

    async def job(number: int) -> None:
        result = await lease.execute(["/bin/sh", "-c", "[ ! -e lock ] || exit 9; : >lock; sleep 0.02; rm lock"])
        assert result.ok
        order.append(number)

    async with anyio.create_task_group() as group:
        for number in range(10):
            group.start_soon(job, number)
            await anyio.sleep(0)
    assert order == list(range(10))


@on_each_loop
async def test_a_release_ends_the_command(lease: AsyncPooledSandbox) -> None:
    async def release() -> None:
        await anyio.sleep(0.1)
        lease.release()

    async with anyio.create_task_group() as group:
        group.start_soon(release)
        with pytest.raises(SandboxReleasedError):
            await lease.execute(["/bin/sleep", "60"])


@on_each_loop
async def test_a_killed_sandbox_is_lost(lease: AsyncPooledSandbox) -> None:
    import os
    import signal

    await lease.execute(["/bin/true"])

    async def kill() -> None:
        await anyio.sleep(0.1)
        os.kill(lease.pid, signal.SIGKILL)

    async with anyio.create_task_group() as group:
        group.start_soon(kill)
        with pytest.raises(SandboxLostError):
            await lease.execute(["/bin/sleep", "60"])
    with pytest.raises(SandboxLostError):
        await lease.execute(["/bin/true"])


@pytest.mark.namespaces("standbys that die with their init")
@on_each_loop
async def test_a_sandbox_that_dies_unused_is_replaced(lease: AsyncPooledSandbox) -> None:
    import os
    import signal

    pid = lease.pid
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not os.path.exists(f"/proc/{pid}"), "it is dead")
    assert (await lease.execute(["/bin/echo", "other"])).stdout == b"other\n"
    assert lease.pid != pid


@on_each_loop
async def test_a_slow_command_costs_no_cpu_time(lease: AsyncPooledSandbox) -> None:
    """Nothing spins, neither for a stream that has ended nor for one that is not taken."""
    used = time.process_time()
    await lease.execute(["/bin/sh", "-c", "exec >&- 2>&-; sleep 1"])
    assert time.process_time() - used < 0.3

    async def slow(piece: bytes) -> None:
        await anyio.sleep(0.5)

    used = time.process_time()
    await lease.execute(["/bin/sh", "-c", "echo x; sleep 0.1; echo y; exec >&-; sleep 0.6"], on_stdout=slow)
    assert time.process_time() - used < 0.3


def test_the_loop_runs_meanwhile() -> None:
    async def main() -> None:
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                await asyncio.sleep(0.005)
                ticks += 1

        async with AsyncSandboxPool() as pool, pool.acquire() as lease:
            ticking = asyncio.create_task(tick())
            await lease.execute(["/bin/sleep", "0.5"])
            ticking.cancel()
        assert ticks > 20

    asyncio.run(main())
