"""Terminals in the Landlock tier: a new one of the host's for a process, and no way to any other."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

import pytest
from test_landlock_tier import IS_ROOT, config

from pysandpool import PoolConfig, PooledSandbox, SandboxError, SandboxPool

PYTHON = "/usr/bin/python3"
SECONDS = 60.0
TIOCGPTN = 0x80045430
"""The number of a terminal, asked of its master."""


@pytest.fixture(autouse=True)
def _in_the_tier(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYSANDPOOL_TIER", "landlock")


@pytest.fixture(params=[7, 5])
def abi(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setenv("PYSANDPOOL_LANDLOCK_ABI", str(request.param))
    if request.param < 6 and not IS_ROOT:
        pytest.skip("there all processes of a lease stay in one session: see the last test")
    return int(request.param)


@pytest.fixture
def lease(abi: int) -> Iterator[PooledSandbox]:
    with SandboxPool(config(), PoolConfig(min_size=1, max_size=2)) as pool, pool.acquire() as one:
        assert one.isolation.tier == "landlock"
        yield one


@contextmanager
def in_terminal(lease: PooledSandbox, words: list[str]) -> Iterator[tuple[Any, IO[str], IO[str]]]:
    with lease.popen(words, pty=True, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        yield process, process.stdout, process.stdin


def test_a_shell_has_a_terminal_with_a_size_and_job_control(lease: PooledSandbox) -> None:
    script = (
        "import os, sys\n"
        "import signal\nsignal.signal(signal.SIGINT, signal.SIG_DFL)\nsys.stdin.readline()\n"
        "print(os.isatty(0), os.get_terminal_size(), os.getsid(0) == os.getpid() == os.tcgetpgrp(0), flush=True)\n"
        "own = open('/dev/tty', 'w')\nown.write('by name\\n')\nown.flush()\nsys.stdin.readline()\n"
    )
    with in_terminal(lease, [PYTHON, "-c", script]) as (process, out, keys):
        process.resize(20, 70)
        keys.write("go\n")
        keys.flush()
        seen = [out.readline().strip() for _ in range(3)]
        assert seen == ["go", "True os.terminal_size(columns=70, lines=20) True", "by name"]
        keys.write("\x03")  # ^C
        keys.flush()
        assert process.wait(SECONDS) == -2


ATTACK = """
import fcntl, os, termios
def attempt(what):
    try:
        what()
    except OSError as error:
        return error.errno
    return 0
print([attempt(what) for what in (
    lambda: os.write(os.open(%(name)r, os.O_WRONLY | os.O_NOCTTY), b"forged"),
    lambda: os.read(os.open(%(name)r, os.O_RDONLY | os.O_NOCTTY | os.O_NONBLOCK), 1),
    lambda: os.open("/dev/ptmx", os.O_RDWR | os.O_NOCTTY),
    lambda: os.listdir("/dev/pts"),
    lambda: fcntl.ioctl(0, termios.TIOCSTI, b"x"),
    lambda: os.chmod(%(name)r, 0o666),
)])
"""


def attempts(lease: PooledSandbox, name: str) -> Iterator[list[int]]:
    """What each attempt came to: by a process without a terminal, and by one that has one."""
    for with_terminal in (False, True):
        stdout = None if with_terminal else subprocess.PIPE
        with lease.popen(
            [PYTHON, "-c", ATTACK % {"name": name}], stdout=stdout, pty=with_terminal, text=True
        ) as process:
            yield eval(process.communicate()[0])


def test_the_terminal_of_another_lease_is_out_of_reach(abi: int) -> None:
    with SandboxPool(config(), PoolConfig(min_size=2)) as pool, pool.acquire() as one, pool.acquire() as other:
        script = 'echo ready; read line; echo "got $line"'
        with in_terminal(one, ["sh", "-c", script]) as (_, out, keys):
            assert out.readline() == "ready\n"
            (number,) = struct.unpack("I", fcntl.ioctl(keys.fileno(), TIOCGPTN, bytes(4)))
            name = f"/dev/pts/{number}"
            # The host, and so any process of the same user that nothing confines, can write there.
            with open(name, "w", encoding="ascii") as control:
                control.write("by the host\n")
            assert out.readline() == "by the host\n"
            for found in attempts(other, name):
                # EACCES by Landlock, EPERM by seccomp or the owner; EIO: the kernel knows no TIOCSTI for anybody
                assert set(found) <= {1, 5, 13}, found
            keys.write("typed\n")
            keys.flush()
            assert [out.readline(), out.readline()] == ["typed\n", "got typed\n"]


HOST = """
    import os, subprocess, sys
    sys.path[:0] = {path!r}
    from pysandpool import *
    with open("/dev/tty", "w") as control:
        control.write("control\\n")
    allow = NamespaceDegradation.ALLOW_DEGRADATION
    with SandboxPool(SandboxConfig(namespace_degradation=allow)) as pool, pool.acquire() as lease:
        assert lease.isolation.tier == "landlock"
        push = "import fcntl, termios; fcntl.ioctl(open('/dev/tty'), termios.TIOCSTI, b'x')"
        for words in (["sh", "-c", "echo forged > /dev/tty"], [{python!r}, "-c", push]):
            assert lease.execute(words).exit_code not in (0, None)
            assert lease.popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).wait() > 0
        assert lease.popen(["sh", "-c", "echo hers > /dev/tty"], pty=True, text=True).communicate()[0] == "hers\\n"
    print("end")
"""


def test_the_terminal_of_the_host_is_out_of_reach(abi: int) -> None:
    pid, terminal = pty.fork()
    if pid == 0:
        script = textwrap.dedent(HOST.format(path=sys.path, python=PYTHON))
        os.execv(sys.executable, [sys.executable, "-c", script])
    seen, deadline = b"", time.monotonic() + SECONDS
    while select.select([terminal], [], [], max(0, deadline - time.monotonic()))[0]:
        try:
            seen += os.read(terminal, 4096)
        except OSError:
            break
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0, seen
    assert seen == b"control\r\nend\r\n"


@pytest.mark.skipif(IS_ROOT, reason="leases of root have ids, and so sessions, of their own")
def test_without_sessions_a_terminal_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYSANDPOOL_LANDLOCK_ABI", "5")
    with SandboxPool(config(), PoolConfig(min_size=1)) as pool, pool.acquire() as lease:
        with pytest.raises(SandboxError) as caught:
            lease.popen(["true"], pty=True)
        assert (caught.value.stage, caught.value.errno) == ("tier", 95)
        assert lease.execute(["/bin/echo", "on"]).stdout == b"on\n"
