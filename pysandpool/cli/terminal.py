"""Runs a command in a terminal of the sandbox, which the terminal of this process shows."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import termios
import tty
from collections.abc import Iterator
from typing import Any, NoReturn

from pysandpool._config.fields import Duration
from pysandpool._execute.encode import Word, Words
from pysandpool._pool.lease import PooledSandbox
from pysandpool._process.process import SandboxProcess

_PIECE = 64 * 1024
_LOOK_MS = 250
"""A process that the command left behind may keep the terminal open: the loop looks this often for the end."""
_END_OF_INPUT = b"\x04"
"""Ctrl-D: at the beginning of a line the end of input, and elsewhere the end of what one read gets."""
_ENDS_OF_LINES = (b"", b"\n", b"\r", _END_OF_INPUT)


def run_in_terminal(
    lease: PooledSandbox,
    cmd: Words,
    stdin: int | None,
    *,
    env: dict[str, Any],
    cwd: Word | None = None,
    timeout: Duration | None = None,
) -> SandboxProcess:
    """Runs `cmd` to its end in a new terminal of the sandbox. Returns the process, which has ended.

    What it writes goes to descriptor 1. What is read from `stdin`, a descriptor or None, goes to it as it is typed: if
    that is a terminal, it is raw meanwhile, so that Ctrl-C interrupts the command.
    """
    with lease.popen(cmd, pty=True, size=_size_here(), env=env, cwd=cwd, timeout=timeout) as process:
        with _size_follows(process), _raw(stdin):
            _pass_on(process, stdin)
        if process.poll() is None and process.stdout is not None:
            process.stdout.close()  # it has closed its terminal, and goes on
        process.wait()
    return process


def _pass_on(process: SandboxProcess, stdin: int | None) -> None:
    """Copies in both directions until nobody has the terminal open any more, or the process has ended."""
    assert process.stdout is not None
    terminal = process.stdout.fileno()
    os.set_blocking(terminal, False)
    typed = last = b""
    while True:
        ready = _wait(terminal, stdin if not typed else None, writes=bool(typed))
        if (terminal in ready and not _show(terminal)) or (not ready and process.poll() is not None):
            return
        if stdin in ready:
            found = _read(stdin)
            if not found:
                found, stdin = _END_OF_INPUT if last in _ENDS_OF_LINES else 2 * _END_OF_INPUT, None
            typed, last = found, found[-1:]
        if typed:
            with contextlib.suppress(BlockingIOError):  # the command does not read what is typed
                typed = typed[os.write(terminal, typed) :]


def _wait(terminal: int, stdin: int | None, *, writes: bool) -> set[int | None]:
    poll = select.poll()
    poll.register(terminal, select.POLLIN | (select.POLLOUT if writes else 0))
    if stdin is not None:
        poll.register(stdin, select.POLLIN)
    return {fd for fd, _ in poll.poll(_LOOK_MS)}


def _show(terminal: int) -> bool:
    """False: nobody has the terminal open any more."""
    try:
        found = os.read(terminal, _PIECE)
    except BlockingIOError:
        return True
    except OSError:  # EIO
        return False
    rest = memoryview(found)
    while rest:
        rest = rest[os.write(1, rest) :]
    return bool(found)


def _read(stdin: int | None) -> bytes:
    try:
        return b"" if stdin is None else os.read(stdin, _PIECE)
    except OSError:
        return b""


@contextlib.contextmanager
def _raw(stdin: int | None) -> Iterator[None]:
    """The terminal of this process passes every key on, and leaves line ends to that of the sandbox. Afterwards, and
    if this process is ended, it is as before."""
    shown = next((fd for fd in (stdin, 1) if fd is not None and os.isatty(fd)), None)
    if shown is None:
        yield
        return
    before = termios.tcgetattr(shown)
    handlers = {number: signal.signal(number, _end) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        if shown == stdin:
            tty.setraw(shown, termios.TCSADRAIN)  # by default it forgets what was typed before
        else:
            output_only = termios.tcgetattr(shown)
            output_only[1] &= ~termios.OPOST
            termios.tcsetattr(shown, termios.TCSADRAIN, output_only)
        yield
    finally:
        termios.tcsetattr(shown, termios.TCSADRAIN, before)
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _end(number: int, _: object) -> NoReturn:
    sys.exit(128 + number)


def _size_here() -> os.terminal_size | None:
    """The size of the terminal of this process. None if there is no terminal, or one without a size."""
    for fd in range(3):
        with contextlib.suppress(OSError):
            size = os.get_terminal_size(fd)
            return size if min(size) > 0 else None
    return None


@contextlib.contextmanager
def _size_follows(process: SandboxProcess) -> Iterator[None]:
    """The terminal of the sandbox is as large as that of this process."""

    def resize(*_: object) -> None:
        size = _size_here()
        if size is not None:
            with contextlib.suppress(OSError, ValueError):  # the process has ended
                process.resize(size.lines, size.columns)

    before = signal.signal(signal.SIGWINCH, resize)
    resize()
    try:
        yield
    finally:
        signal.signal(signal.SIGWINCH, before)
