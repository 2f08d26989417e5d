"""on_stdout and on_stderr: output is handed over as it comes, the command waits for its reader, and nothing is lost."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable
from typing import Any

import pytest

from pysandpool import PooledSandbox, Sandbox, SandboxConfig, SandboxError, SandboxPool, SandboxReleasedError

PYTHON = "/usr/bin/python3"
MIB = 1024 * 1024
# Each line is the time at which it was written.
CLOCK = "import os, time\nfor _ in range(40):\n os.write(1, b'%d\\n' % time.monotonic_ns())\n time.sleep(0.01)"


class FailedError(Exception):
    """What a function of a caller may raise."""


def fail(_: bytes) -> None:
    raise FailedError


def test_pieces_come_while_the_command_runs(sandbox: PooledSandbox) -> None:
    start, seen = time.monotonic(), []
    script = "echo first; sleep 0.3; echo second >&2; sleep 0.3; echo third"

    def note(name: str) -> Callable[[bytes], None]:
        return lambda piece: seen.append((name, piece, time.monotonic() - start))

    result = sandbox.execute(["/bin/sh", "-c", script], on_stdout=note("out"), on_stderr=note("err")).check()
    assert [(name, piece) for name, piece, _ in seen] == [
        ("out", b"first\n"),
        ("err", b"second\n"),
        ("out", b"third\n"),
    ]
    assert seen[1][2] - seen[0][2] > 0.2
    assert seen[2][2] - seen[1][2] > 0.2
    assert (result.stdout, result.stderr) == (b"first\nthird\n", b"second\n")


def test_bytes_come_while_the_command_runs(sandbox: PooledSandbox) -> None:
    delays: list[float] = []
    # On a busy machine a piece may have several lines; the first has waited longest.
    sandbox.execute(
        [PYTHON, "-c", CLOCK], on_stdout=lambda piece: delays.append(time.monotonic_ns() - int(piece.split()[0]))
    )
    assert 1 < len(delays) <= 40


@pytest.mark.parametrize("size", [0, 1, 4096, 256 * 1024, 256 * 1024 + 1, 64 * MIB])
def test_every_byte_comes_once(sandbox: PooledSandbox, size: int) -> None:
    script = f"import os\ndata = bytes(range(251)) * {size // 251 + 1}\nos.write(2, b'e')\n"
    script += f"sent = 0\nwhile sent < {size}: sent += os.write(1, data[sent:{size}])"
    pieces: list[bytes] = []
    result = sandbox.execute([PYTHON, "-c", script], on_stdout=pieces.append, max_output_bytes=10)
    assert result.exit_code == 0
    assert b"".join(pieces) == (bytes(range(251)) * (size // 251 + 1))[:size]
    assert max(map(len, pieces), default=0) <= 2 * MIB
    assert (result.stdout, result.stdout_truncated) == (bytes(range(251))[:size][:10], size > 10)
    assert (result.stderr, result.stderr_truncated) == (b"e", False)


def test_a_slow_function_makes_the_command_wait(sandbox: PooledSandbox) -> None:
    """The memory of the host stays bounded: nothing is read ahead of the function but a buffer and a pipe."""
    taken, written = 0, b""

    def slow(piece: bytes) -> None:
        nonlocal taken
        taken += len(piece)
        time.sleep(0.05)

    def keep(piece: bytes) -> None:
        nonlocal written
        written = piece

    script = "import os, time\nend = time.monotonic() + 1\nn = 0\n"
    script += "while time.monotonic() < end: n += os.write(1, bytes(4096))\nos.write(2, b'%d' % n)"
    sandbox.execute([PYTHON, "-c", script], on_stdout=slow, on_stderr=keep, max_output_bytes=0)
    assert taken == int(written)
    assert taken <= 40 * MIB  # 20 turns of at most a buffer and a pipe each; unhindered it writes gigabytes


def test_input_and_functions_together(sandbox: PooledSandbox) -> None:
    data, pieces = bytes(range(256)) * 40_000, list[bytes]()
    result = sandbox.execute(["/bin/cat"], input=data, on_stdout=pieces.append, max_output_bytes=math.inf)
    assert b"".join(pieces) == data == result.check().stdout


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_an_exception_kills_the_command_and_passes_through(sandbox: PooledSandbox, stream: str) -> None:
    script = "echo $$ >&2; echo out; sleep 60"
    start = time.monotonic()
    with pytest.raises(FailedError):
        sandbox.execute(["/bin/sh", "-c", script], **{f"on_{stream}": fail})  # type: ignore[arg-type]
    assert time.monotonic() - start < 5
    assert b"sleep" not in sandbox.execute(["/bin/sh", "-c", "cat /proc/[0-9]*/comm"]).stdout


def test_an_exception_on_the_last_bytes_passes_through(sandbox: PooledSandbox) -> None:
    with pytest.raises(FailedError):
        sandbox.execute(["/bin/echo"], on_stdout=fail)
    assert sandbox.execute(["/bin/echo", "usable"]).check().stdout == b"usable\n"


def test_output_before_a_timeout_is_handed_over(sandbox: PooledSandbox) -> None:
    pieces: list[bytes] = []
    result = sandbox.execute(["/bin/sh", "-c", "echo kept; sleep 60"], on_stdout=pieces.append, timeout=0.3)
    assert result.timed_out
    assert pieces == [b"kept\n"] == [result.stdout]


def test_a_flood_does_not_delay_the_timeout(sandbox: PooledSandbox) -> None:
    result = sandbox.execute(["/usr/bin/yes"], on_stdout=lambda _: None, timeout=0.3, max_output_bytes=0)
    assert result.timed_out
    assert result.elapsed < 2


def test_waiting_for_output_costs_no_cpu(sandbox: PooledSandbox) -> None:
    before = time.process_time()
    sandbox.execute(["/bin/sh", "-c", "exec 1>&-; sleep 1"], on_stdout=lambda _: None)
    assert time.process_time() - before < 0.2


def test_a_function_cannot_execute_in_the_same_sandbox(shared_pool: SandboxPool) -> None:
    with shared_pool.acquire() as one, shared_pool.acquire() as other:

        def nested(_: bytes) -> None:
            assert other.execute(["/bin/echo", "other"], on_stdout=lambda _: None).stdout == b"other\n"
            one.execute(["/bin/true"])

        for script in ("echo; sleep 60", "echo"):
            with pytest.raises(SandboxError, match="another one in the same sandbox"):
                one.execute(["/bin/sh", "-c", script], on_stdout=nested)
        assert one.execute(["/bin/true"]).exit_code == 0


def test_a_function_may_release_the_sandbox(shared_pool: SandboxPool) -> None:
    lease = shared_pool.acquire()
    with pytest.raises(SandboxReleasedError):
        lease.execute(["/bin/sh", "-c", "echo; sleep 60"], on_stdout=lambda _: lease.release())


@pytest.mark.parametrize("value", [-1, 2**50, 1.5, "1", math.nan])
def test_max_output_bytes_is_checked(sandbox: PooledSandbox, value: Any) -> None:
    with pytest.raises((ValueError, TypeError), match=r"max_output_bytes = .* is not allowed; expected: an int, 0 "):
        sandbox.execute(["/bin/true"], max_output_bytes=value)


def test_max_output_bytes_of_a_call() -> None:
    with Sandbox(SandboxConfig(max_output_bytes=3)) as sandbox:
        for most, expected in ((None, b"123"), (2, b"12"), (0, b""), (9, b"1234567"), (math.inf, b"1234567")):
            result = sandbox.execute(["/bin/echo", "-n", "1234567"], max_output_bytes=most)
            assert (result.stdout, result.stdout_truncated) == (expected, len(expected) < 7)


def test_a_wrong_function_is_refused(sandbox: PooledSandbox) -> None:
    with pytest.raises(TypeError, match="must be functions, not int"):
        sandbox.execute(["/bin/true"], on_stderr=1)  # type: ignore[arg-type]


def test_an_async_function_is_refused_before_the_command_starts(sandbox: PooledSandbox) -> None:
    async def take(piece: bytes) -> None:
        raise AssertionError(piece)

    class Taker:
        async def __call__(self, piece: bytes) -> None:
            raise AssertionError(piece)

    for function in (take, functools.partial(take), Taker()):
        with pytest.raises(TypeError, match="async functions in AsyncSandboxPool"):
            sandbox.execute(["touch", "started"], on_stdout=function)
    assert not sandbox.exists("started")
