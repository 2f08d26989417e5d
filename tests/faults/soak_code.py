"""What the soak does with interpreters: code, sessions, their copies, and stems that are renewed."""

from __future__ import annotations

import random
import threading
from contextlib import ExitStack, suppress

from soak_check import BreachError

from pysandpool import (
    AsyncPooledSandbox,
    CodeResult,
    CodeSession,
    Interpreter,
    PooledSandbox,
    SandboxConfig,
    SandboxPool,
    SessionEndedError,
)

CONFIGS = [
    SandboxConfig(interpreter=Interpreter(preload=["json"], setup="kept = [1]")),
    SandboxConfig(interpreter=Interpreter(after_fork="renewed = True"), memory_limit_mb=48, max_processes=16),
    SandboxConfig(interpreter=Interpreter(start="exec"), timeout_secs=5.0),
]
# What is printed, the value, and how it ends: an exit code, a signal as a negative number, or None for the time.
PIECES: list[tuple[str, str, str | None, int | None]] = [
    ("print('one')\n6 * 7", "one\n", "42", 0),
    ("print(input())", "line\n", None, 0),
    ("1 / 0", "", None, 1),
    ("import sys; print('x'); sys.exit(7)", "x\n", None, 7),
    ("import os; print('y', flush=True); os.kill(os.getpid(), 11)", "y\n", None, -11),
    ("print('z' * 300_000)", "z" * 300_000 + "\n", None, 0),
    ("import os\nif os.fork() == 0:\n    import time; time.sleep(60)\n'parent'", "", "'parent'", 0),
    ("while True: pass", "", None, None),
]


def has_interpreter(pool: SandboxPool) -> bool:
    return pool.config.interpreter is not None


def run(noise: random.Random, lease: PooledSandbox) -> None:
    code, stdout, text, end = noise.choice(PIECES)
    timeout = 0.05 if end is None else 20
    compare(lease.run_code(code, input="line\n", timeout=timeout), stdout, text, end)


def compare(found: CodeResult, stdout: str, text: str | None, end: int | None) -> None:
    """A limit may have ended it; then nothing is known of what it has printed. The killed are reported otherwise."""
    if end is None:
        if not (found.timed_out or found.oom_killed):
            raise BreachError(f"code was to run for ever: {found}")
    elif not (found.timed_out or found.oom_killed or found.stdout_truncated):
        ended = found.exit_code if found.signal is None else -found.signal
        if (found.stdout, found.text, ended) != (stdout, text, end):
            raise BreachError(f"another result than {(stdout[:50], text, end)}: {str(found)[:2000]}")


def cells(noise: random.Random, session: CodeSession, number: int) -> None:
    """Each counts in its own copy of the state."""
    for _ in range(noise.randrange(1, 4)):
        number += 1
        found = session.run("n += 1\nprint(n)\nn", timeout=20)
        goes_on = found.exit_code is None and found.signal is None
        if goes_on and (found.stdout, found.text) != (f"{number}\n", f"{number}"):
            raise BreachError(f"cell {number}: {found}")


def sessions(noise: random.Random, lease: PooledSandbox) -> None:
    """With copies, of which some are killed under way, and some are left to the end of the lease."""
    with suppress(SessionEndedError), ExitStack() as opened:
        session = opened.enter_context(lease.session())
        session.run("n = 0", timeout=20)
        cells(noise, session, 0)
        session.run("n = 0", timeout=20)
        copies = session.branch(noise.randrange(1, 4))
        threads = [threading.Thread(target=quietly, args=(random.Random(noise.random()), one)) for one in copies[1:]]
        for thread in threads:
            thread.start()
        if noise.random() < 0.3:
            copies[-1].kill()
        try:
            cells(noise, copies[0], 0)
        finally:
            for thread in threads:
                thread.join()
        if noise.random() < 0.5:
            lease.execute(["/bin/true"], timeout=5)
        if noise.random() < 0.3:
            session.run("while True: pass", timeout=0.05)


def quietly(noise: random.Random, session: CodeSession) -> None:
    with suppress(Exception):
        cells(noise, session, 0)


def code(noise: random.Random, pool: SandboxPool) -> None:
    """Nothing on a pool without an interpreter."""
    if not has_interpreter(pool):
        return
    with pool.acquire(timeout=5) as lease:
        forks = pool.config.interpreter.start == "fork"  # type: ignore[union-attr]
        for _ in range(noise.choice([1, 1, 3])):
            way = noise.random()
            if way < 0.3 and forks:
                sessions(noise, lease)
            elif way < 0.5:
                lease.execute(["/bin/echo", "hello"], timeout=5)
            else:
                run(noise, lease)


def renew(noise: random.Random, pool: SandboxPool) -> None:
    """Others go on meanwhile."""
    pool.renew(timeout=noise.choice([0, 5]))


async def session_in_loop(noise: random.Random, lease: AsyncPooledSandbox) -> None:
    with suppress(SessionEndedError):
        async with lease.session() as session:
            await session.run("n = 1", timeout=20)
            (copy,) = await session.branch(1)
            found = await copy.run("n", timeout=20)
            if found.exit_code is None and found.signal is None and found.text != "1":
                raise BreachError(f"another result: {found}")


async def run_in_loop(noise: random.Random, lease: AsyncPooledSandbox) -> None:
    code, stdout, text, end = noise.choice(PIECES)
    found = await lease.run_code(code, input="line\n", timeout=0.05 if end is None else 20)
    compare(found, stdout, text, end)
