"""The load under which hosts and zygotes are killed."""

from __future__ import annotations

import asyncio
import os
import random
import tempfile
import threading
from collections import Counter
from contextlib import suppress
from functools import partial

from pysandpool import (
    AsyncSandboxPool,
    NamespaceDegradation,
    PoolConfig,
    PooledSandbox,
    SandboxConfig,
    SandboxCreateError,
    SandboxLostError,
    SandboxPool,
    SandpoolError,
    SessionEndedError,
    Workspace,
)

# The Landlock tier, which each configuration allows where there are no namespaces, has no workspace or private /tmp.
MODES = ("rw", "ro", "cow") if SandboxConfig().namespace_degradation is NamespaceDegradation.FAIL_CLOSED else ()
HOME = "/tmp/" if MODES else ""
COMMANDS = [
    ["/bin/true"],
    ["/bin/echo", "hello"],
    ["/bin/sh", "-c", "setsid sleep 60 & exec sleep 0.003"],
    ["/bin/sh", "-c", "head -c 300000 /dev/zero; (sleep 60 | sleep 60) & :"],
    ["/bin/sh", "-c", "trap '' TERM INT HUP; echo x >$HOME/file; sleep 0.01"],
]


def a_workspace(noise: random.Random, folder: str, share: float) -> Workspace | None:
    return Workspace(folder, noise.choice(MODES)) if MODES and noise.random() < share else None


def use_interpreter(noise: random.Random, lease: PooledSandbox) -> None:
    """Code, and sessions with copies that are left to the end of the lease."""
    if noise.random() < 0.6:
        found = lease.run_code("print('hello')\n6 * 7", timeout=noise.choice([0.002, 5]))
        if found.exit_code == 0 and (found.stdout, found.text) != ("hello\n", "42"):
            raise SandpoolError(f"code had another result: {found}")
    else:
        with suppress(SessionEndedError):
            session = lease.session()
            session.run("n = 1", timeout=5)
            for copy in session.branch(noise.randrange(1, 4)):
                copy.run("n", timeout=noise.choice([0.002, 5]))


def use(noise: random.Random, lease: PooledSandbox, choice: float, interprets: bool) -> None:
    """Commands, processes and file calls; sometimes nothing."""
    if interprets and choice > 0.5:
        use_interpreter(noise, lease)
    elif choice < 0.6:
        lease.execute(noise.choice(COMMANDS), timeout=noise.choice([0.002, 5]))
    elif choice < 0.75:
        first = lease.popen(noise.choice(COMMANDS), pty=noise.random() < 0.3, timeout=5)  # left to the end of the lease
        lease.popen(noise.choice(COMMANDS), timeout=noise.choice([0.002, 5])).wait()
        for file in (first.stdin, first.stdout):
            if file is not None:
                file.close()
    elif choice < 0.9:
        data = noise.randbytes(noise.choice([10, 1_000_000]))
        lease.write_file(f"{HOME}d/file", data)
        if lease.read_file(f"{HOME}d/file") != data:
            raise SandpoolError("a file has other bytes")
        lease.remove(f"{HOME}d", recursive=True)


def work(pool: SandboxPool, folder: str, seed: int, seen: Counter[str], over: threading.Event) -> None:
    """Acquires, with workspaces, too, uses, releases and warms, until `over`; counts the errors that it sees."""
    noise = random.Random(seed)
    while not over.is_set():
        try:
            choice = noise.random()
            if choice < 0.1:
                pool.warm(noise.randrange(6))
                continue
            workspace = a_workspace(noise, folder, 0.3)
            with pool.acquire(timeout=5, workspace=workspace) as lease:
                use(noise, lease, noise.random(), pool.config.interpreter is not None)
            seen["uses"] += 1
        except SandpoolError as error:
            seen[type(error).__name__] += 1
            if not isinstance(error, (SandboxLostError, SandboxCreateError)):
                seen["wrong errors"] += 1
                print(repr(error), flush=True)


async def work_in_loop(folder: str, seed: int, seen: Counter[str], over: threading.Event) -> None:
    """The same in tasks of one event loop, some of which are cancelled."""
    noise = random.Random(seed)

    async def use_one(pool: AsyncSandboxPool, workspace: Workspace | None) -> None:
        try:
            async with pool.acquire(5, workspace=workspace) as lease:
                if noise.random() < 0.7:
                    await lease.execute(noise.choice(COMMANDS), timeout=noise.choice([0.002, 5]))
                else:
                    await (await lease.popen(noise.choice(COMMANDS), timeout=5)).wait()
            seen["uses in a loop"] += 1
        except (SandboxLostError, SandboxCreateError) as error:
            seen[type(error).__name__] += 1

    while not over.is_set():
        try:
            async with AsyncSandboxPool(None, PoolConfig(min_size=noise.randrange(3), max_size=4)) as pool:
                for _ in range(5):
                    workspaces = [a_workspace(noise, folder, 0.5) for _ in range(6)]
                    tasks = [asyncio.ensure_future(use_one(pool, workspace)) for workspace in workspaces]
                    asyncio.get_running_loop().call_later(noise.uniform(0, 0.02), tasks[0].cancel)
                    for ended in await asyncio.gather(*tasks, return_exceptions=True):
                        if isinstance(ended, Exception):
                            raise ended
        except SandboxCreateError as error:
            seen[type(error).__name__] += 1
        except SandpoolError as error:
            seen["wrong errors"] += 1
            print(repr(error), flush=True)


def begin_work(
    pool: SandboxPool, n: int, seed: int, seen: Counter[str], over: threading.Event
) -> list[threading.Thread]:
    """`n` threads that use the pool, and one with an event loop."""
    folder = (
        tempfile.gettempdir() + f"/sandpool-kill-{os.getuid()}"
    )  # of all turns, so that a killed host leaves nothing new
    os.makedirs(folder, exist_ok=True)
    works = [partial(work, pool, folder, seed + i, seen, over) for i in range(n)]
    works.append(lambda: asyncio.run(work_in_loop(folder, seed, seen, over)))
    threads = [threading.Thread(target=one, daemon=True) for one in works]
    for thread in threads:
        thread.start()
    return threads
