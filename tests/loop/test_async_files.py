"""File calls on each event loop: the same names, awaited; a cancellation leaves nothing half written."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import anyio
import pytest
from loops import LOOPS, cancelled_at, run_on

from pysandpool import (
    AsyncPooledSandbox,
    AsyncSandbox,
    AsyncSandboxPool,
    PoolConfig,
    PooledSandbox,
    SandboxReleasedError,
)
from pysandpool._async.files import AsyncFileMethods
from pysandpool._files.methods import FileMethods

Test = Callable[[AsyncPooledSandbox, Path], Coroutine[Any, Any, None]]


def on_each_loop(test: Test) -> Callable[[str, Path], None]:
    """Makes a test of a lease one of each loop."""

    @pytest.mark.parametrize("loop", LOOPS)
    def run(loop: str, tmp_path: Path) -> None:
        async def main() -> None:
            async with AsyncSandboxPool(None, PoolConfig(min_size=1)) as pool, pool.acquire() as lease:
                await test(lease, tmp_path)

        run_on(loop, main)

    run.__name__ = test.__name__
    return run


def test_the_names_are_the_same() -> None:
    def names(kind: type) -> set[str]:
        return {name for name in vars(kind) if not name.startswith("_")}

    assert names(AsyncFileMethods) == names(FileMethods) == names(FileMethods) & set(dir(PooledSandbox))


@on_each_loop
async def test_one_file(lease: AsyncPooledSandbox, folder: Path) -> None:
    await lease.write_file("a/b", "text")
    await lease.write_files({"c": b"1", "d": b"2"})
    assert await lease.read_file("a/b", text=True) == "text"
    assert (await lease.stat("a/b")).st_size == 4
    assert await lease.list_files() == ["a", "c", "d"]
    await lease.rename("c", "e")
    await lease.mkdir("x/y", parents=True)
    await lease.remove("a", recursive=True)
    assert [await lease.exists(name) for name in ("a", "c", "e", "x/y")] == [False, False, True, True]
    with pytest.raises(FileNotFoundError) as caught:
        await lease.read_file("c")
    assert caught.value.filename == "c"
    assert (await lease.execute(["/bin/cat", "e"])).stdout == b"1"


@on_each_loop
async def test_open(lease: AsyncPooledSandbox, folder: Path) -> None:
    with await lease.open("log", "w") as file:
        file.write("one\n")
    with await lease.open("log", "a+") as file:
        file.write("two\n")
    with await lease.open("log", "rt") as file:
        assert (file.read(), file.name, file.encoding) == ("one\ntwo\n", "log", "utf-8")
    with pytest.raises(FileExistsError):
        await lease.open("log", "x")
    for mode in ("q", "rbt", "rw"):
        with pytest.raises(ValueError):  # noqa: PT011 - as the built-in one
            await lease.open("log", mode)


@on_each_loop
async def test_megabytes_and_trees(lease: AsyncPooledSandbox, folder: Path) -> None:
    data = os.urandom(5 << 20)
    await lease.write_file("large", data)
    assert await lease.read_file("large") == data
    (folder / "d").mkdir()
    (folder / "d" / "file").write_bytes(data)
    await lease.upload(folder, "t")
    assert await lease.download("t", folder / "copy") == []
    assert (folder / "copy" / "d" / "file").read_bytes() == data


@on_each_loop
async def test_many_at_once_beside_a_command(lease: AsyncPooledSandbox, folder: Path) -> None:
    async def work(name: str) -> None:
        for n in range(30):
            await lease.write_file(name, b"%d" % n)
            assert await lease.read_file(name) == b"%d" % n

    async def command() -> None:
        assert (await lease.execute(["/bin/sh", "-c", "until [ -e 7 ]; do sleep 0.01; done"])).exit_code == 0

    async with anyio.create_task_group() as group:
        group.start_soon(command)
        for number in range(8):
            group.start_soon(work, str(number))


@on_each_loop
async def test_after_the_release(lease: AsyncPooledSandbox, folder: Path) -> None:
    lease.release()
    with pytest.raises(SandboxReleasedError):
        await lease.read_file("file")


@pytest.mark.parametrize("loop", LOOPS)
def test_a_sandbox_has_them(loop: str) -> None:
    async def main() -> None:
        async with AsyncSandbox() as sandbox:
            await sandbox.write_file("file", b"1")
            assert await sandbox.read_file("file") == b"1"

    run_on(loop, main)


@pytest.mark.parametrize("when", ["at once", "soon", "late"])
def test_a_cancellation_leaves_no_half_of_a_file(when: str) -> None:
    async def main() -> None:
        async with AsyncSandboxPool(None, PoolConfig(min_size=1)) as pool, pool.acquire() as lease:
            assert await pool.settle(10)
            before = len(os.listdir("/proc/self/fd"))
            for nth in range(100):
                if not await cancelled_at(nth, when, lambda: lease.write_file("a/file", bytes(3 << 20))):
                    break
                assert [name for name in await lease.list_files() if name != "a"] == []
                if await lease.exists("a"):
                    assert set(await lease.list_files("a")) <= {"file"}
                    await lease.remove("a", recursive=True)
            else:
                pytest.fail("it waits without end")
            # `before` may have one of the janitor's, which the calls of files do not wait for.
            assert len(os.listdir("/proc/self/fd")) <= before
            assert (await lease.execute(["/bin/echo", "1"])).stdout == b"1\n"

    asyncio.run(main())


@pytest.mark.parametrize("loop", LOOPS)
def test_a_cancelled_scope_cleans_up(loop: str) -> None:
    """In trio and anyio every wait of a cancelled scope is cancelled again."""

    async def main() -> None:
        async with AsyncSandboxPool(None, PoolConfig(min_size=1)) as pool, pool.acquire() as lease:
            for n in range(30):
                with anyio.move_on_after(n * 0.0002):
                    await lease.write_file("file", bytes(3 << 20))
                assert set(await lease.list_files()) <= {"file"}

    run_on(loop, main)
