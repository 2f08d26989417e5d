"""`run -it` and `shell`: a terminal of the sandbox, shown by the terminal of the caller."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from full_tier import allowing

from pysandpool.cli.terminal import run_in_terminal

pytestmark = pytest.mark.slow  # not in `make quick`

PROGRAM = [sys.executable, "-m", "pysandpool"]
SECONDS = 60.0


def program(command: str, *words: str) -> list[str]:
    return [*PROGRAM, command, *allowing(), *words]


class Screen:
    """A program in a terminal that the test plays the user of."""

    def __init__(self, *words: str) -> None:
        self.seen = b""
        command = program(*words)
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.execv(command[0], command)

    def size(self, rows: int, cols: int) -> None:
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, cols, 0, 0))

    def type(self, keys: str) -> None:
        os.write(self.fd, keys.encode())

    def expect(self, pattern: str) -> str:
        """Waits until what came matches, and forgets it."""
        deadline = time.monotonic() + SECONDS
        while not (found := re.search(pattern.encode(), self.seen)):
            assert time.monotonic() < deadline, self.seen
            assert self._read(deadline), self.seen
        self.seen = self.seen[found.end() :]
        return found[0].decode()

    def wait(self) -> int:
        deadline = time.monotonic() + SECONDS
        while self._read(deadline):
            pass
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def _read(self, deadline: float) -> bool:
        if not select.select([self.fd], [], [], max(0, deadline - time.monotonic()))[0]:
            return False
        try:
            found = os.read(self.fd, 65536)
        except OSError:
            return False
        self.seen += found
        return found != b""


@contextmanager
def screen(*words: str) -> Iterator[Screen]:
    one = Screen(*words)
    try:
        yield one
    finally:
        os.close(one.fd)
        try:
            os.kill(one.pid, signal.SIGKILL)
            os.waitpid(one.pid, 0)
        except (ProcessLookupError, ChildProcessError):
            pass


def test_a_shell_has_a_terminal_of_its_own() -> None:
    with screen("shell", "--env", "PS1=ready>") as user:
        user.expect("ready>")
        user.size(33, 101)
        user.type("stty size\r")
        user.expect(r"33 101\r\n")
        user.type("sleep 60\r")
        user.expect("sleep 60")
        time.sleep(0.3)
        user.type("\x03")
        user.expect("ready>")
        user.type("echo status $?\r")
        user.expect("status 130")
        user.type("exit 7\r")
        assert user.wait() == 7


class StartedError(Exception):
    pass


class NoLease:
    """Remembers what is asked for, and starts nothing."""

    def popen(self, _: object, **options: object) -> object:
        self.options = options
        raise StartedError


@pytest.mark.parametrize(("here", "passed"), [((101, 33), (101, 33)), ((0, 0), None), (None, None)])
def test_the_command_has_the_size_from_the_start(
    monkeypatch: pytest.MonkeyPatch, here: tuple[int, int] | None, passed: tuple[int, int] | None
) -> None:
    def size_of(_: int) -> os.terminal_size:
        if here is None:
            raise OSError
        return os.terminal_size(here)

    monkeypatch.setattr(os, "get_terminal_size", size_of)
    lease: Any = NoLease()
    with pytest.raises(StartedError):
        run_in_terminal(lease, ["true"], None, env={})
    assert lease.options["size"] == passed
    assert passed is None or isinstance(lease.options["size"], os.terminal_size)


def test_keys_that_were_typed_before_the_shell_is_there() -> None:
    with screen("shell") as user:
        user.type("echo $((6 * 7)); exit 7\r")
        user.expect("42\r\n")
        assert user.wait() == 7


def test_the_size_follows() -> None:
    with screen(
        "run", "-it", "--", "/bin/sh", "-c", "trap 'stty size; exit' WINCH; echo ready; while :; do sleep 0.1; done"
    ) as user:
        user.expect("ready")
        user.size(11, 22)
        user.expect("11 22")
        assert user.wait() == 0


def test_the_terminal_of_the_caller_is_as_before() -> None:
    script = f"{' '.join(program('run', '-it'))} -- /bin/echo inside; stty -a | grep -o ' -*icanon'"
    one = Screen.__new__(Screen)
    one.seen = b""
    one.pid, one.fd = pty.fork()
    if one.pid == 0:
        os.execv("/bin/sh", ["/bin/sh", "-c", script])
    one.expect(r"inside\r\n icanon")
    assert one.wait() == 0
    os.close(one.fd)


def test_sigterm_ends_it_and_the_terminal_is_as_before() -> None:
    with screen("run", "-it", "--", "/bin/sh", "-c", "echo ready; sleep 60") as user:
        user.expect("ready")
        raw = termios.tcgetattr(user.fd)[3]
        os.kill(user.pid, signal.SIGTERM)
        assert user.wait() == 128 + signal.SIGTERM
        assert not raw & termios.ICANON


@pytest.mark.parametrize(
    ("options", "script", "code", "text"),
    [
        ([], "exit 3", 3, ""),
        ([], "kill -9 $$", 137, ""),
        (["--timeout", "0.5"], "sleep 60", 124, "ran longer than 0.5 s"),
        ([], "exec no-such-command", 127, ""),
    ],
)
def test_exit_codes(options: list[str], script: str, code: int, text: str) -> None:
    with screen("run", "-it", *options, "--", "/bin/sh", "-c", script) as user:
        assert user.wait() == code
        assert text.encode() in user.seen


def test_a_process_left_behind_does_not_hold_it_up() -> None:
    with screen("run", "-it", "--", "/bin/sh", "-c", "trap '' HUP; sleep 60 & echo done") as user:
        start = time.monotonic()
        assert user.wait() == 0
        assert b"done" in user.seen
        assert time.monotonic() - start < 10


@pytest.mark.parametrize("typed", [b"typed\n", b"typed", b"first\ntyped"])
def test_a_terminal_without_one_here(typed: bytes) -> None:
    """The input ends, also in the middle of a line."""
    done = subprocess.run(
        program("run", "-it", "--", "/bin/sh", "-c", "test -t 0 && test -t 1 && cat"),
        check=False,
        input=typed,
        capture_output=True,
        timeout=SECONDS,
    )
    assert (done.stdout.count(b"typed"), done.returncode) == (2, 0)  # the terminal's echo, and the command's


@pytest.mark.namespaces("the name of a terminal")
def test_the_terminal_has_a_name() -> None:
    done = subprocess.run(program("run", "-t", "--", "tty"), check=False, capture_output=True, timeout=SECONDS)
    assert (done.stdout, done.returncode) == (b"/dev/pts/0\r\n", 0)


def test_output_without_keys() -> None:
    with screen("run", "-t", "--", "/bin/sh", "-c", "echo one; sleep 60") as user:
        user.expect("one\r\n$")
        user.type("\x03")  # interrupts the program, and not the command
        assert user.wait() == 130


def test_a_shell_reads_a_script() -> None:
    done = subprocess.run(program("shell"), check=False, input=b"echo $((6 * 7))\nexit 4\n", capture_output=True)
    assert (done.stdout, done.stderr, done.returncode) == (b"42\n", b"", 4)


@pytest.mark.parametrize("option", [["--json"], ["--max-output-bytes", "9"], ["--cpu-time", "1"]])
def test_options_that_need_pipes_are_refused(option: list[str]) -> None:
    done = subprocess.run(program("run", "-t", *option, "--", "true"), check=False, capture_output=True, text=True)
    assert done.returncode == 2
    assert f"{option[0]} cannot be used with --tty" in done.stderr
