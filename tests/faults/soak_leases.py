"""What the soak does within one lease, or within one event loop: processes, terminals, files, workspaces."""

from __future__ import annotations

import asyncio
import os
import random
import tempfile
from collections.abc import Callable, Coroutine
from contextlib import ExitStack, suppress
from pathlib import Path
from subprocess import PIPE, TimeoutExpired
from typing import Any

from soak_check import BreachError
from soak_code import run_in_loop, session_in_loop
from soak_run import CONFIGS, EXPECTED, POOL_CONFIGS

from pysandpool import AsyncPooledSandbox, AsyncSandboxPool, PooledSandbox, SandboxPool, SandpoolError, Workspace

COMMANDS: list[tuple[list[str], float]] = [
    (["/bin/true"], 10),
    (["/bin/echo", "hello"], 10),
    (["no-such-command"], 10),
    (["/bin/sh", "-c", "exit 3"], 10),
    (["/bin/sh", "-c", "kill -9 $$"], 10),
    (["/bin/sleep", "60"], 0.005),
    (["/bin/sh", "-c", "while :; do echo flood; done"], 0.02),
    (["/bin/sh", "-c", "head -c 500000 /dev/zero"], 10),
    (["/bin/sh", "-c", "(setsid sleep 60 &) ; sleep 60 & :"], 10),
    (["/bin/sh", "-c", "for i in 1 2 3 4 5 6 7 8 9; do sleep 60 & done; wait"], 0.03),
    (["/bin/sh", "-c", "kill -STOP $$"], 0.02),
    (["/bin/sh", "-c", "head -c 30000000 /dev/zero >/tmp/fill"], 10),
    (["/usr/bin/head", "-c", "200M", "/dev/zero"], 0.02),
    (["/bin/sh", "-c", "a=x; while :; do a=$a$a; done"], 2),
]


def files(noise: random.Random, pool: SandboxPool) -> None:
    """Writes and reads, before a command, beside one that fills the scratch, or beside one that replaces them."""
    script = noise.choice(["exit", "exec head -c 80M /dev/zero >/tmp/fill", "while :; do mv d e; mv e d; done"])
    with pool.acquire(timeout=5) as lease, ExitStack() as stack:
        data = noise.randbytes(noise.choice([0, 1000, 1_000_000]))
        lease.write_file("d/file", data)
        stack.enter_context(lease.popen(["/bin/sh", "-c", script], timeout=noise.choice([0.01, 5])))
        for _ in range(noise.choice([1, 5])):
            with suppress(OSError):
                lease.write_file("d/file", data)
                if lease.read_file("d/file") != data:
                    raise BreachError("a file has other bytes")
                lease.list_files("d")
                lease.remove("d", recursive=True)


def processes(noise: random.Random, pool: SandboxPool) -> None:
    """Several at once, beside a command: some are read, some are killed, some are left to the end of the lease."""
    with pool.acquire(timeout=5) as lease, ExitStack() as opened:
        started = []
        for _ in range(noise.randrange(1, 5)):
            command, timeout = noise.choice(COMMANDS)
            if noise.random() < 0.3:
                process = lease.popen(command, pty=True, timeout=timeout)
            else:
                process = lease.popen(command, stdin=PIPE, stdout=PIPE, timeout=timeout)
            for file in (process.stdin, process.stdout):
                if file is not None:  # it was killed before it had a terminal
                    opened.callback(file.close)
            started.append((process, timeout))
        lease.execute(["/bin/echo", "beside"], timeout=5)
        for process, timeout in started:
            way = noise.random()
            if way < 0.5 and timeout >= 1:
                with suppress(TimeoutExpired):
                    process.communicate(timeout=noise.uniform(0, 0.1))
            elif way < 0.8:
                process.kill()
                process.wait(20)


def workspace(noise: random.Random, pool: SandboxPool) -> None:
    """A directory of the host in each mode. It may vanish, and the sandbox may die, before or after the attaching."""
    with tempfile.TemporaryDirectory(prefix="sandpool-soak-") as folder:
        Path(folder, "in").write_text("in")
        mode = noise.choice(["rw", "ro", "cow"])
        if noise.random() < 0.1:
            os.rename(folder, f"{folder}-gone")
        try:
            with pool.acquire(timeout=5, workspace=Workspace(folder, mode)) as lease:
                use_workspace(noise, lease)
        except FileNotFoundError:
            if os.path.exists(folder):
                raise
        finally:
            if not os.path.exists(folder):
                os.rename(f"{folder}-gone", folder)
        made = os.path.exists(f"{folder}/out")
        if made and mode != "rw":
            raise BreachError(f"a workspace with {mode!r} was changed")


def use_workspace(noise: random.Random, lease: PooledSandbox) -> None:
    process = lease.popen(["/bin/sh", "-c", "cat in; echo out >out"], stdout=PIPE) if noise.random() < 0.5 else None
    command, timeout = noise.choice(COMMANDS)
    lease.execute(["/bin/sh", "-c", "cat in; echo out >out; test -e in"], timeout=5).check()
    lease.execute(command, timeout=timeout)
    if process is not None:
        process.communicate(timeout=20)


async def execute(noise: random.Random, lease: AsyncPooledSandbox) -> None:
    command, timeout = noise.choice(COMMANDS)
    await lease.execute(command, timeout=timeout, input=noise.choice([None, b"x" * 200_000]))


async def stream(noise: random.Random, lease: AsyncPooledSandbox) -> None:
    async def take(piece: bytes) -> None:
        await asyncio.sleep(0)

    command, timeout = noise.choice(COMMANDS)
    await lease.execute(command, timeout=timeout, on_stdout=take)


async def run_process(noise: random.Random, lease: AsyncPooledSandbox) -> None:
    command, timeout = noise.choice(COMMANDS)
    process = await lease.popen(command, stdin=PIPE, stdout=PIPE, timeout=timeout)
    try:
        with suppress(TimeoutExpired, asyncio.TimeoutError):
            await asyncio.wait_for(process.communicate(b"x" * 1000), noise.uniform(0, 0.1))
    finally:
        for file in (process.stdin, process.stdout):
            file.close()


async def move_files(noise: random.Random, lease: AsyncPooledSandbox) -> None:
    data = noise.randbytes(noise.choice([0, 1000, 1_000_000]))
    await lease.write_file("/tmp/d/file", data)
    if await lease.read_file("/tmp/d/file") != data:
        raise BreachError("a file has other bytes")


Deed = Callable[[random.Random, AsyncPooledSandbox], Coroutine[Any, Any, None]]
DEEDS: list[Deed] = [execute, execute, stream, run_process, move_files]


async def work_in_loop(noise: random.Random, folder: str) -> None:
    """Many tasks on one pool. Some of them are cancelled, at any moment."""
    config = noise.choice(CONFIGS)
    deeds = [*DEEDS]
    if config.interpreter is not None:
        deeds += [run_in_loop] * 3 + ([session_in_loop] * 2 if config.interpreter.start == "fork" else [])
    async with AsyncSandboxPool(config, noise.choice(POOL_CONFIGS)) as pool:

        async def task(deed: Deed) -> None:
            directory = noise.choice([None, None, Workspace(folder, noise.choice(["rw", "ro", "cow"]))])
            with suppress(*EXPECTED):
                async with pool.acquire(5, workspace=directory) as lease:
                    await deed(noise, lease)

        tasks = [asyncio.ensure_future(task(noise.choice(deeds))) for _ in range(noise.randrange(1, 20))]
        loop = asyncio.get_running_loop()
        for one in noise.sample(tasks, len(tasks) // 3):
            loop.call_later(noise.choice([0, noise.uniform(0, 0.05)]), one.cancel)
        ended = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 60)
        for error in ended:
            if isinstance(error, BaseException) and not isinstance(error, asyncio.CancelledError):
                raise error
        await pool.drain(20)
        if (stats := await pool.stats()).in_use_count:
            raise BreachError(f"cancelled tasks have left leases: {stats}")


def in_a_loop(noise: random.Random, pool: SandboxPool) -> None:
    with tempfile.TemporaryDirectory(prefix="sandpool-soak-") as folder, suppress(SandpoolError):
        asyncio.run(work_in_loop(noise, folder))
