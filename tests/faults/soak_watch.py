"""Watches a soak from outside, so that it reports a hang or a death, whoever holds the GIL.

The soak runs in a child. It says on a pipe what it begins and when something has ended; when nothing has for some time,
its Python stacks, where each thread of it and of all it has started waits in the kernel, and the last it said are
printed, and it is killed. When a signal ends it, the signal and the last it said are.
"""

from __future__ import annotations

import faulthandler
import os
import select
import signal
import sys
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from eyes_linux import descendants

HANG_SECONDS = 60.0
HUNG = 3
DIED = 4
LAST_EVENTS = 60
ENDED = "."


class Beats:
    """The soak's end of the pipe; without one it says nothing."""

    def __init__(self, pipe: int = -1) -> None:
        self.pipe = pipe

    def begun(self, what: str) -> None:
        self._say(what)

    def ended(self) -> None:
        self._say(ENDED)

    def _say(self, what: str) -> None:
        if self.pipe != -1:
            os.write(self.pipe, f"{what}\n".encode())


def where(pid: int) -> str:
    """What each of its threads is, and waits for; the stack is root's to read."""
    lines = []
    for task in sorted(Path(f"/proc/{pid}/task").iterdir()):
        told = {}
        for name in ("comm", "wchan", "syscall", "stack"):
            told[name] = "?"
            with suppress(OSError):
                told[name] = (task / name).read_text().strip()
        stack = " < ".join(line.split()[-1].partition("+")[0] for line in told["stack"].splitlines())
        state = (task / "stat").read_text().rpartition(")")[2].split()[0]
        lines.append(f"{task.name} {told['comm']} {state} {told['wchan']} syscall {told['syscall']} in {stack}")
    return "\n    ".join(lines)


def tell_processes(top: int) -> None:
    """The host, its zygotes, and each init with its tenants."""
    for pid in [top, *sorted(descendants(top))]:
        with suppress(OSError):
            print(f"  {pid}: {where(pid)}", flush=True)


def tell_hang(host: int) -> None:
    print(f"HANG: nothing has ended for {HANG_SECONDS:.0f} s; the processes, and where their threads wait:")
    tell_processes(host)
    os.kill(host, signal.SIGUSR1)  # its stacks; the handler is C and needs no lock
    time.sleep(1)
    os.kill(host, signal.SIGKILL)


class _Ear:
    """The watch's end of the pipe."""

    def __init__(self, pipe: int) -> None:
        self.pipe = pipe
        self.events: deque[str] = deque(maxlen=LAST_EVENTS)
        self._rest = b""

    def hear(self) -> bool:
        """Whether something has ended."""
        return self._take(os.read(self.pipe, 1 << 16))

    def hear_the_rest(self) -> None:
        os.set_blocking(self.pipe, False)  # what it has started may have the other end, too
        with suppress(BlockingIOError):
            while text := os.read(self.pipe, 1 << 16):
                self._take(text)

    def _take(self, text: bytes) -> bool:
        *lines, self._rest = (self._rest + text).split(b"\n")
        told = [line.decode() for line in lines]
        self.events += [line for line in told if line != ENDED]
        return ENDED in told


def _listen(host: int, ear: _Ear) -> bool:
    """Until the host ends. False when it was hung."""
    ended = time.monotonic()
    pidfd = os.pidfd_open(host)
    try:
        while True:
            left = ended + HANG_SECONDS - time.monotonic()
            ready, _, _ = select.select([ear.pipe, pidfd], [], [], max(left, 0))
            if pidfd in ready:
                return True
            if ear.pipe in ready and ear.hear():
                ended = time.monotonic()
            if time.monotonic() - ended > HANG_SECONDS:
                tell_hang(host)
                return False
    finally:
        os.close(pidfd)


def watched(soak: Callable[[Beats], int], named: str) -> int:
    """Runs it in a child; its exit status, or HUNG, or DIED. `named` is called with one that has failed so."""
    near, far = os.pipe()
    sys.stdout.flush()
    host = os.fork()
    if host == 0:
        os.close(near)
        faulthandler.enable()
        faulthandler.register(signal.SIGUSR1, all_threads=True)
        sys.exit(soak(Beats(far)))
    os.close(far)
    ear = _Ear(near)
    answered = _listen(host, ear)
    code = os.waitstatus_to_exitcode(os.waitpid(host, 0)[1])
    ear.hear_the_rest()
    os.close(near)
    if answered and code >= 0:
        return code
    what = f"DIED by signal {-code} ({signal.strsignal(-code)})" if answered else "HUNG"
    print(f"{what}, {named}; the last events:\n" + "\n".join(ear.events), flush=True)
    return DIED if answered else HUNG
