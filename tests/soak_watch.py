"""Watches a soak from outside, so that one which hangs is told as well, wherever it hangs and whoever holds the GIL.

The soak runs in a child. It says on a pipe what it begins and when something has ended; when nothing has for some time,
its Python stacks, where each thread of it and of all it has started waits in the kernel, and the last it said are
printed, and it is killed.
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


def tell_hang(host: int, events: deque[str]) -> None:
    print(f"HANG: nothing has ended for {HANG_SECONDS:.0f} s; the processes, and where their threads wait:")
    tell_processes(host)
    print("the last events:\n" + "\n".join(events), flush=True)
    os.kill(host, signal.SIGUSR1)  # its stacks; the handler is C and needs no lock
    time.sleep(1)
    os.kill(host, signal.SIGKILL)


def _told(pipe: int, rest: bytes) -> tuple[list[str], bytes]:
    *lines, rest = (rest + os.read(pipe, 1 << 16)).split(b"\n")
    return [line.decode() for line in lines], rest


def _listen(host: int, pipe: int) -> bool:
    """Until the host ends. False when it was hung."""
    events: deque[str] = deque(maxlen=LAST_EVENTS)
    ended, rest = time.monotonic(), b""
    pidfd = os.pidfd_open(host)
    try:
        while True:
            left = ended + HANG_SECONDS - time.monotonic()
            ready, _, _ = select.select([pipe, pidfd], [], [], max(left, 0))
            if pidfd in ready:
                return True
            if pipe in ready:
                lines, rest = _told(pipe, rest)
                events += [line for line in lines if line != ENDED]
                ended = time.monotonic() if ENDED in lines else ended
            if time.monotonic() - ended > HANG_SECONDS:
                tell_hang(host, events)
                return False
    finally:
        os.close(pidfd)


def watched(soak: Callable[[Beats], int]) -> int:
    """Runs it in a child; its exit status, or HUNG."""
    near, far = os.pipe()
    sys.stdout.flush()
    host = os.fork()
    if host == 0:
        os.close(near)
        faulthandler.register(signal.SIGUSR1, all_threads=True)
        sys.exit(soak(Beats(far)))
    os.close(far)
    answered = _listen(host, near)
    os.close(near)
    code = os.waitstatus_to_exitcode(os.waitpid(host, 0)[1])
    return code if answered else HUNG
