"""`await lease.popen(...)` on each event loop."""

from __future__ import annotations

import asyncio
import gc
import signal
import subprocess
import time
from collections.abc import Callable, Coroutine
from subprocess import DEVNULL, PIPE, STDOUT
from typing import Any

import anyio
import pytest
from eyes import open_fds, thread_count
from loops import LOOPS, each_loop, run_on

from pysandpool import (
    AsyncPooledSandbox,
    AsyncSandbox,
    AsyncSandboxPool,
    CommandNotFoundError,
    PoolConfig,
    SandboxConfig,
    SandboxReleasedError,
)

Test = Callable[[AsyncPooledSandbox], Coroutine[Any, Any, None]]


def on_each_loop(test: Test) -> Callable[[str], None]:
    async def main() -> None:
        async with AsyncSandboxPool(SandboxConfig(network="loopback"), PoolConfig(min_size=0)) as pool:
            threads = thread_count()
            async with pool.acquire() as lease:
                fds = len(open_fds())
                await test(lease)
                gc.collect()
                # A released one may be alive beside the one that takes its place.
                assert len(open_fds()) <= fds + 2 * lease.released
                assert thread_count() <= threads
            assert (await pool.stats()).in_use_count == 0

    return each_loop(test, main)


@on_each_loop
async def test_a_process_is_started_and_waited_for(lease: AsyncPooledSandbox) -> None:
    process = await lease.popen(["/bin/sh", "-c", "echo out; echo err >&2; exit 3"], stdout=PIPE, stderr=PIPE)
    assert process.pid > 0
    assert process.stdin is None
    assert await process.communicate() == (b"out\n", b"err\n")
    assert process.returncode == process.poll() == await process.wait() == 3
    async with lease.popen(["/bin/sh", "-c", "cat; cat nothing"], stdin=PIPE, stdout=PIPE, stderr=STDOUT) as other:
        out, err = await other.communicate(b"x" * 1_000_000)
        assert out.startswith(b"x" * 1_000_000)
        assert b"No such file" in out
        assert err is None
    text = await lease.popen(["/bin/cat"], stdin=PIPE, stdout=PIPE, stderr=DEVNULL, errors="strict")
    assert await text.communicate("hä\r\n") == ("hä\n", None)
    with pytest.raises(CommandNotFoundError):
        await lease.popen(["/no/such"])
    with pytest.raises(CommandNotFoundError):
        await lease.popen(["/no/such"], pty=True)
    with pytest.raises(ValueError, match="pty=True is not allowed with"):
        await lease.popen(["/bin/true"], pty=True, stdout=PIPE)
    with pytest.raises(ValueError, match="stdin is no pipe"):
        await (await lease.popen(["/bin/true"])).communicate(b"data")


@on_each_loop
async def test_the_error_of_a_start_keeps_no_descriptor_open(lease: AsyncPooledSandbox) -> None:
    """CPython 3.9 keeps the exception that woke a task alive until the task waits again."""
    await lease.execute(["/bin/true"])
    for terminal, pipe in ((False, PIPE), (True, None)):
        before = open_fds()
        with pytest.raises(CommandNotFoundError) as kept:
            await lease.popen(["/no/such"], pty=terminal, stdout=pipe)
        # The one of a sandbox that was destroyed before may go meanwhile.
        assert not open_fds().items() - before.items(), kept


@on_each_loop
async def test_lines_come_as_they_are_written(lease: AsyncPooledSandbox) -> None:
    script = "echo ready; while read line; do echo got $line; done; printf end"
    async with lease.popen(["/bin/sh", "-c", script], stdin=PIPE, stdout=PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert await process.stdout.readline() == "ready\n"
        for word in ("one", "two"):
            await process.stdin.write(f"{word}\n")
            await process.stdin.drain()
            assert await process.stdout.readline() == f"got {word}\n"
        await process.stdin.write("three\nfour\n")
        process.stdin.close()
        assert [line async for line in process.stdout] == ["got three\n", "got four\n", "end"]
        assert await process.stdout.read() == ""
        with pytest.raises(ValueError, match="closed file"):
            await process.stdin.write("x")
    assert process.returncode == 0


@on_each_loop
async def test_reads_of_bytes(lease: AsyncPooledSandbox) -> None:
    process = await lease.popen(["/bin/sh", "-c", "printf abcdef; sleep 0.2; head -c 300000 /dev/zero"], stdout=PIPE)
    assert process.stdout is not None
    assert await process.stdout.read(2) == b"ab"
    assert await process.stdout.read(0) == b""
    with anyio.move_on_after(0.01) as scope:
        assert await process.stdout.read() == b""
    assert scope.cancelled_caught
    rest = await process.stdout.read()  # a cancelled read has lost nothing
    assert rest == b"cdef" + bytes(300_000)
    assert await process.wait() == 0
    process.stdout.close()


@on_each_loop
async def test_words_of_asyncio_streams(lease: AsyncPooledSandbox) -> None:
    async with lease.popen(["cat"], stdin=PIPE, stdout=PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        await process.stdin.write(b"12345")
        process.stdin.close()
        await process.stdin.wait_closed()
        assert await process.stdout.readexactly(4) == b"1234"
        assert not process.stdout.at_eof()
        with pytest.raises(asyncio.IncompleteReadError) as ended:
            await process.stdout.readexactly(2)
        assert ended.value.partial == b"5"
        assert process.stdout.at_eof()


@on_each_loop
async def test_several_run_beside_a_command(lease: AsyncPooledSandbox) -> None:
    server = "import http.server as h; h.HTTPServer(('', 8000), h.SimpleHTTPRequestHandler).serve_forever()"
    client = "import urllib.request as u; print(u.urlopen('http://localhost:8000/').status)"
    async with lease.popen(["/bin/sleep", "60"]) as idle:
        process = await lease.popen(["/usr/bin/python3", "-uc", f"print('up', flush=True); {server}"], stdout=PIPE)
        assert process.stdout is not None
        assert await process.stdout.readline() == b"up\n"
        for _ in range(50):
            result = await lease.execute(["/usr/bin/python3", "-c", client], text=True)
            if result.ok:
                break
            await anyio.sleep(0.1)
        assert result.stdout == "200\n"
        assert process.poll() is None
        await process.terminate()
        assert await process.wait() == -signal.SIGTERM
        assert idle.poll() is None
        await idle.kill()
    assert idle.returncode == -signal.SIGKILL
    process.stdout.close()


@on_each_loop
async def test_timeouts(lease: AsyncPooledSandbox) -> None:
    limited = await lease.popen(["/bin/sleep", "60"], timeout=0.1)
    assert await limited.wait(timeout=20) == -9
    assert limited.timed_out
    process = await lease.popen(["/bin/sh", "-c", "echo x; exec sleep 60"], stdout=PIPE)
    with pytest.raises(subprocess.TimeoutExpired):
        await process.wait(timeout=0.05)
    with pytest.raises(subprocess.TimeoutExpired) as failed:
        await process.communicate(timeout=0.2)
    assert failed.value.output == b"x\n"
    process.kill()
    assert await process.communicate() == (b"x\n", None)
    assert process.returncode == -9


@on_each_loop
async def test_several_tasks_wait_for_one_process(lease: AsyncPooledSandbox) -> None:
    process = await lease.popen(["/bin/sleep", "0.3"])
    found: list[int] = []

    async def wait(timeout: float | None) -> None:
        found.append(await process.wait(timeout))

    async with anyio.create_task_group() as group:
        with anyio.move_on_after(0.05):
            await process.wait()
        for timeout in (None, 10, None, 20):
            group.start_soon(wait, timeout)
        with anyio.move_on_after(0.05):
            await process.wait()
    assert found == [0] * 4


@on_each_loop
async def test_a_cancelled_block_kills_its_process(lease: AsyncPooledSandbox) -> None:
    start = time.monotonic()
    with anyio.CancelScope() as scope:
        async with lease.popen(["/bin/sleep", "60"], stdout=PIPE) as process:
            assert process.stdout is not None
            scope.deadline = anyio.current_time() + 0.1
            await process.stdout.read()
    assert scope.cancelled_caught
    assert process.returncode == -9
    assert time.monotonic() - start < 10
    with pytest.raises(LookupError):
        async with lease.popen(["/bin/sleep", "60"]) as process:
            raise LookupError
    assert process.returncode == -9


@on_each_loop
async def test_a_cancelled_start_leaves_no_process(lease: AsyncPooledSandbox) -> None:
    for delay in (0, 0.0005, 0.001, 0.002, 0.004):
        with anyio.move_on_after(delay):
            await (await lease.popen(["/bin/sleep", "60"], stdout=PIPE)).wait()
    with anyio.fail_after(10):
        while True:
            found = await lease.execute(["/bin/sh", "-c", "cat /proc/[0-9]*/comm"], text=True)
            if "sleep" not in found.stdout.splitlines():
                break
            for name in ("kill -9 $(grep -ls '^sleep$' /proc/[0-9]*/comm | cut -d/ -f3)",):  # those that had started
                await lease.execute(["/bin/sh", "-c", name])


@on_each_loop
async def test_a_terminal(lease: AsyncPooledSandbox) -> None:
    process = await lease.popen(["/bin/sh", "-c", "stty size; read line; echo got $line"], pty=True, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    process.resize(40, 100)
    await process.stdin.write("word\n")
    assert "got word" in await process.stdout.read()
    assert await process.wait() == 0
    process.stdin.close()
    process.stdout.close()


@on_each_loop
async def test_a_terminal_has_its_size_from_the_start(lease: AsyncPooledSandbox) -> None:
    process = await lease.popen(["stty", "size"], pty=True, size=(31, 99), text=True)
    assert await process.communicate() == ("31 99\n", None)


@on_each_loop
async def test_keys_that_nobody_reads(lease: AsyncPooledSandbox) -> None:
    """The kernel tells who writes to a full terminal to wait, although nobody has it open any more."""
    async with lease.popen(["sleep", "0.2"], pty=True) as process:
        assert process.stdin is not None
        with pytest.raises(BrokenPipeError):
            await process.stdin.write(b"key\n" * 100_000)
    async with lease.popen(["sleep", "0.2"], pty=True) as process:
        assert process.stdin is not None
        process.stdin.write(b"key\n" * 100_000)
    async with lease.popen(["sleep", "0.2"], pty=True) as process:
        assert (await process.communicate(b"key\n" * 100_000))[1] is None


@on_each_loop
async def test_a_timeout_that_ends_during_the_start(lease: AsyncPooledSandbox) -> None:
    for _ in range(20):  # most of these are killed before they have sent their terminal
        process = await lease.popen(["/bin/sleep", "60"], pty=True, timeout=1e-9)
        assert await process.wait() == -9
        assert process.stdin is not None
        assert process.stdout is not None
        assert await process.communicate() == (b"", None)


@on_each_loop
async def test_a_process_ends_with_its_lease(lease: AsyncPooledSandbox) -> None:
    process = await lease.popen(["/bin/sleep", "60"])

    async def release() -> None:
        await anyio.sleep(0.1)
        lease.release()

    async with anyio.create_task_group() as group:
        group.start_soon(release)
        assert await process.wait() == -9
    with pytest.raises(SandboxReleasedError):
        await lease.popen(["/bin/true"])


@pytest.mark.parametrize("loop", LOOPS)
def test_without_a_pool(loop: str) -> None:
    async def main() -> None:
        async with AsyncSandbox() as sandbox, sandbox.popen(["/bin/echo", "x"], stdout=PIPE) as process:
            assert await process.communicate() == (b"x\n", None)

    run_on(loop, main)


@pytest.mark.parametrize("loop", LOOPS)
def test_a_process_holds_the_lease_that_nobody_else_has(loop: str) -> None:
    async def main() -> None:
        async with AsyncSandboxPool() as pool:
            process = await (await pool.acquire()).popen(["cat"], stdin=PIPE, stdout=PIPE)
            gc.collect()
            assert await process.communicate(b"hello") == (b"hello", None)
            gc.collect()
            assert (await pool.stats()).in_use_count == 0

    run_on(loop, main)
