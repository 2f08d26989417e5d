"""The streams of a process in an event loop, used as those of asyncio.subprocess are."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from subprocess import PIPE
from typing import Any

import anyio
import pytest
from loops import LOOPS, each_loop, run_on

from pysandpool import AsyncSandbox
from pysandpool._async.current import current

pytestmark = pytest.mark.skipif("sys.platform == 'darwin'", reason="an agent starts no processes beside commands")

MORE_THAN_A_PIPE_HOLDS = 300_000


def on_each_loop(test: Callable[[AsyncSandbox], Coroutine[Any, Any, None]]) -> Callable[[str], None]:
    async def main() -> None:
        async with AsyncSandbox() as sandbox:
            await test(sandbox)

    return each_loop(test, main)


@on_each_loop
async def test_a_write_need_not_be_awaited(sandbox: AsyncSandbox) -> None:
    async with sandbox.popen(["cat"], stdin=PIPE, stdout=PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("one\n")
        await process.stdin.drain()
        print("two", file=process.stdin)
        process.stdin.writelines(["three\n", "four\n"])
        process.stdin.write_eof()
        assert process.stdin.is_closing()
        assert [line async for line in process.stdout] == ["one\n", "two\n", "three\n", "four\n"]


@on_each_loop
async def test_what_does_not_fit_is_kept_until_it_is_awaited(sandbox: AsyncSandbox) -> None:
    process = await sandbox.popen(["sh", "-c", "read line; wc -c"], stdin=PIPE, stdout=PIPE)
    assert process.stdin is not None
    data = bytearray(MORE_THAN_A_PIPE_HOLDS)
    process.stdin.write(data)
    data[:] = b"\n" * len(data)
    with pytest.raises(RuntimeError, match=r"bytes are not written yet: await drain\(\) before close"):
        process.stdin.close()
    process.stdin.write(b"\n")
    await process.stdin.write(b"x" * MORE_THAN_A_PIPE_HOLDS)
    process.stdin.close()
    assert process.stdout is not None
    assert int(await process.stdout.read()) == MORE_THAN_A_PIPE_HOLDS
    assert await process.wait() == 0


@on_each_loop
async def test_communicate_and_the_end_of_a_block_write_what_is_left(sandbox: AsyncSandbox) -> None:
    process = await sandbox.popen(["wc", "-c"], stdin=PIPE, stdout=PIPE)
    assert process.stdin is not None
    process.stdin.write(b"x" * MORE_THAN_A_PIPE_HOLDS)
    out, _ = await process.communicate(b"yz")
    assert int(out) == MORE_THAN_A_PIPE_HOLDS + 2

    async with sandbox.popen(["sh", "-c", "wc -c > count"], stdin=PIPE) as other:
        assert other.stdin is not None
        other.stdin.write(b"x" * MORE_THAN_A_PIPE_HOLDS)
    assert int(await sandbox.read_file("count")) == MORE_THAN_A_PIPE_HOLDS

    async with sandbox.popen(["true"], stdin=PIPE) as third:
        await third.wait()
        assert third.stdin is not None
        with pytest.raises(BrokenPipeError):
            third.stdin.write(b"x")
        third.stdin.close()


@on_each_loop
async def test_readuntil(sandbox: AsyncSandbox) -> None:
    script = "printf 'one--t'; sleep 0.1; printf 'wo-'; sleep 0.1; printf -- '-three'"
    process = await sandbox.popen(["bash", "-c", script], stdout=PIPE)
    assert process.stdout is not None
    assert await process.stdout.readuntil(b"--") == b"one--"
    assert await process.stdout.readuntil(b"--") == b"two--"
    with pytest.raises(asyncio.IncompleteReadError) as caught:
        await process.stdout.readuntil(b"--")
    assert caught.value.partial == b"three"
    assert process.stdout.at_eof()

    process = await sandbox.popen(["printf", r"a\nb|c"], stdout=PIPE, text=True)
    assert process.stdout is not None
    assert await process.stdout.readuntil() == "a\n"
    with pytest.raises(TypeError, match="str that is not empty"):
        await process.stdout.readuntil(b"|")
    assert await process.stdout.readuntil("|") == "b|"
    assert await process.stdout.read() == "c"


@on_each_loop
async def test_lines_and_other_parts_take_turns(sandbox: AsyncSandbox) -> None:
    """All of it is at hand after the first read."""
    process = await sandbox.popen(["printf", r"1\n2\n3456\n7\n8\n9\n"], stdout=PIPE)
    stdout = process.stdout
    assert stdout is not None
    assert await stdout.readline() == b"1\n"
    assert await stdout.read(1) == b"2"
    assert await stdout.readline() == b"\n"
    assert await stdout.readexactly(2) == b"34"
    assert await stdout.readuntil(b"6") == b"56"
    assert await stdout.readline() == b"\n"
    async for line in stdout:
        assert line == b"7\n"
        break
    assert await process.communicate() == (b"8\n9\n", None)


@on_each_loop
async def test_lines_end_with_the_stream(sandbox: AsyncSandbox) -> None:
    """One that is closed gives no line that it has at hand."""
    process = await sandbox.popen(["printf", r"1\n2\n"], stdout=PIPE, text=True)
    assert process.stdout is not None
    assert await process.stdout.readline() == "1\n"
    assert await process.stdout.readline() == "2\n"
    assert await process.stdout.readline() == ""
    other = await sandbox.popen(["printf", r"1\n2\n"], stdout=PIPE, text=True)
    assert other.stdout is not None
    assert await other.stdout.readline() == "1\n"
    other.stdout.close()
    with pytest.raises(ValueError, match="closed file"):
        await other.stdout.readline()


def test_a_task_can_be_made_of_a_write() -> None:
    async def main() -> None:
        async with AsyncSandbox() as sandbox, sandbox.popen(["wc", "-c"], stdin=PIPE, stdout=PIPE) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            await asyncio.create_task(process.stdin.write(b"x" * MORE_THAN_A_PIPE_HOLDS))
            await asyncio.wait_for(process.stdin.write(b"y"), 10)
            process.stdin.close()
            assert int(await process.stdout.read()) == MORE_THAN_A_PIPE_HOLDS + 1

    asyncio.run(main())


# ---- a tenant that never lets its reader wait ----


@on_each_loop
async def test_a_flood_leaves_the_loop_to_others(sandbox: AsyncSandbox) -> None:
    """Only the other task ends the process before its timeout does."""
    async with sandbox.popen(["yes"], stdout=PIPE, timeout=20) as process, anyio.create_task_group() as tasks:
        assert process.stdout is not None

        async def end() -> None:
            await anyio.sleep(0.01)
            process.kill()

        tasks.start_soon(end)
        async for line in process.stdout:
            assert line == b"y\n"
    assert (process.returncode, process.timed_out) == (-9, False)


@on_each_loop
async def test_writes_that_find_room_leave_the_loop_to_others(sandbox: AsyncSandbox) -> None:
    async with sandbox.popen(["cat"], stdin=PIPE) as process, anyio.create_task_group() as tasks:
        assert process.stdin is not None
        stdin, ended = process.stdin, anyio.Event()

        async def end() -> None:
            ended.set()

        tasks.start_soon(end)
        for _ in range(10):
            await stdin.write(b"x")
        assert ended.is_set()
        stdin.close()


@pytest.mark.parametrize("loop", LOOPS)
def test_what_is_there_at_once_leaves_the_loop_to_others(loop: str) -> None:
    """As the output of a command that a function takes, of which there may always be more."""

    async def main() -> None:
        with anyio.CancelScope() as scope:
            scope.cancel()
            await current().drive(lambda: None, steady=True)
        assert scope.cancelled_caught

    run_on(loop, main)
