"""`run_code` and code sessions on each event loop."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Callable, Coroutine
from typing import Any

import anyio
import pytest
from code_pools import code_config
from eyes import open_fds, thread_count
from loops import LOOPS, cancelled_at, each_loop, run_on

from pysandpool import (
    AsyncCodeSession,
    AsyncPooledSandbox,
    AsyncSandbox,
    AsyncSandboxPool,
    PoolConfig,
    SandboxError,
    SandboxReleasedError,
    SessionEndedError,
)

Test = Callable[[AsyncPooledSandbox], Coroutine[Any, Any, None]]


def on_each_loop(test: Test) -> Callable[[str], None]:
    async def main() -> None:
        async with AsyncSandboxPool(code_config(), PoolConfig(min_size=0)) as pool:
            threads = thread_count()
            async with pool.acquire() as lease:
                fds = len(open_fds())
                await test(lease)
                gc.collect()
                assert len(open_fds()) <= fds + 2 * lease.released
                assert thread_count() <= threads
            assert (await pool.stats()).in_use_count == 0

    return each_loop(test, main)


@on_each_loop
async def test_code(lease: AsyncPooledSandbox) -> None:
    found = await lease.run_code("print(input())\nhelper(2)", input="x")
    assert (found.stdout, found.text, found.exit_code) == ("x\n", "4", 0)
    late = await lease.run_code("while True: pass", timeout=0.2)
    assert late.timed_out
    with pytest.raises(TypeError):
        await lease.run_code(b"1")  # type: ignore[arg-type]


@on_each_loop
async def test_functions_may_be_async(lease: AsyncPooledSandbox) -> None:
    pieces: list[str] = []

    async def take(text: str) -> None:
        await anyio.sleep(0.01)
        pieces.append(text)

    found = await lease.run_code("print('a')\n1", on_stdout=take)
    async with lease.session() as session:
        again = await session.run("print('b')\n2", on_stdout=take, on_stderr=pieces.append)
    assert "".join(pieces) == "a\nb\n"
    assert (found.text, again.text) == ("1", "2")


@on_each_loop
async def test_cells_share_their_state(lease: AsyncPooledSandbox) -> None:
    async with lease.session(env={"NAME": "value"}) as session:
        await session.run("import os\nx = 1", input=b"")
        assert (await session.run("x += 1\nx, os.environ['NAME'], helper(3)")).text == "(2, 'value', 6)"
        assert session.pid > 0
        failed = await session.run("1 / 0")
        assert failed.error is not None
    with pytest.raises(SessionEndedError):
        await session.run("1")


@on_each_loop
async def test_a_session_ends_and_not_the_lease(lease: AsyncPooledSandbox) -> None:
    session = await lease.session()
    assert (await session.run("while True: pass", timeout=0.2)).timed_out
    with pytest.raises(SessionEndedError, match="timeout"):
        await session.run("1")
    other = await lease.session()
    assert (await other.run("raise SystemExit(3)")).exit_code == 3
    killed = await lease.session()
    killed.kill()
    with pytest.raises(SessionEndedError, match="killed"):
        await killed.run("1")
    await killed.close()
    assert (await lease.run_code("1")).text == "1"


@on_each_loop
async def test_a_cancelled_cell_ends_its_session(lease: AsyncPooledSandbox) -> None:
    session = await lease.session()
    with anyio.move_on_after(0.3):
        await session.run("while True: pass")
    assert session.ended
    with pytest.raises(SessionEndedError):
        await session.run("1")
    with anyio.move_on_after(0.3):
        await lease.run_code("while True: pass")
    assert (await lease.run_code("1")).text == "1"


@on_each_loop
async def test_branches(lease: AsyncPooledSandbox) -> None:
    async with lease.session() as session:
        await session.run("x = 1")
        first, second = await session.branch(2)
        found: list[str | None] = []

        async def work(one: AsyncCodeSession, n: int) -> None:
            found.append((await one.run(f"import time\ntime.sleep(0.2)\nx += {n}\nx")).text)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(work, first, 1)
            tasks.start_soon(work, second, 2)
        assert sorted(str(text) for text in found) == ["2", "3"]
        assert (await first.run("import os\nos._exit(5)")).exit_code == 5
        assert (await second.run("x")).text == "3"
        await first.close()
        await second.close()
        assert (await session.run("x")).text == "1"
        with pytest.raises(ValueError, match="an int, 1"):
            await session.branch(0)


@on_each_loop
async def test_tasks_take_turns(lease: AsyncPooledSandbox) -> None:
    async with lease.session() as session:
        found: list[str | None] = []

        async def work() -> None:
            code = "n = globals().get('n', 0)\nimport time\ntime.sleep(0.01)\nn += 1\nn"
            found.append((await session.run(code)).text)

        async with anyio.create_task_group() as tasks:
            for _ in range(5):
                tasks.start_soon(work)
        assert found == ["1", "2", "3", "4", "5"]


@on_each_loop
async def test_a_function_cannot_use_its_session(lease: AsyncPooledSandbox) -> None:
    session = await lease.session()

    async def nested(text: str) -> None:
        await session.run("2")

    with pytest.raises(SandboxError, match="cannot use the session"):
        await session.run("print(1)", on_stdout=nested)
    assert (await lease.run_code("1")).text == "1"


@on_each_loop
async def test_a_release_ends_the_cell(lease: AsyncPooledSandbox) -> None:
    session = await lease.session()

    async def release() -> None:
        await anyio.sleep(0.2)
        lease.release()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(release)
        with pytest.raises(SandboxReleasedError):
            await session.run("while True: pass")


@pytest.mark.parametrize("loop", LOOPS)
def test_a_single_sandbox(loop: str) -> None:
    async def main() -> None:
        async with AsyncSandbox(code_config()) as sandbox:
            assert (await sandbox.run_code("helper(1)")).text == "2"
            async with sandbox.session() as session:
                assert (await session.run("3")).text == "3"

    run_on(loop, main)


@pytest.mark.parametrize("loop", LOOPS)
def test_a_pool_runs_code_and_the_loop_goes_on(loop: str) -> None:
    async def main() -> None:
        async with AsyncSandboxPool(code_config(), PoolConfig(min_size=1)) as pool:
            ticks = 0
            done = False

            async def tick() -> None:
                nonlocal ticks
                while not done:
                    await anyio.sleep(0.01)
                    ticks += 1

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(tick)
                assert (await pool.run_code("import time\ntime.sleep(0.5)\n1")).text == "1"
                done = True
            assert ticks > 5

    run_on(loop, main)


@pytest.mark.parametrize("when", ["at once", "soon", "late"])
def test_a_cancellation_at_any_point_leaves_the_lease_in_order(when: str) -> None:
    async def main() -> None:
        async with AsyncSandboxPool(code_config(), PoolConfig(min_size=0)) as pool, pool.acquire() as lease:
            await lease.run_code("1")
            fds = len(open_fds())

            async def use() -> None:
                async with lease.session() as session:
                    await session.run("print('x' * 1000)\n1", input="x" * 100)
                    (copy,) = await session.branch()
                    async with copy:
                        await copy.run("1")
                await lease.run_code("1")

            began = time.monotonic()
            cancelled = 0
            while cancelled <= 3:  # on a loaded machine most answers are there before a call has to wait
                nth = 0
                while await cancelled_at(nth, when, use):
                    nth += 1
                    gc.collect()
                    assert len(open_fds()) <= fds
                cancelled += nth
                assert time.monotonic() - began < 120
            assert (await lease.run_code("1")).text == "1"

    asyncio.run(main())


def test_it_belongs_to_no_other_process() -> None:
    with pytest.raises(TypeError):
        AsyncCodeSession.__reduce__(object.__new__(AsyncCodeSession))
