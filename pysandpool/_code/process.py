"""The host's ends of one code session: the process, its channel and its outputs. No function here waits.

What waits is written as steps: functions that do what can be done at once, and return what to wait for, a descriptor
and seconds, or None when they have finished. A thread and an event loop can both take such steps.
"""

from __future__ import annotations

import array
import contextlib
import os
import select
import signal
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any, Optional

from pysandpool._code.place import CodePlace
from pysandpool._errors import SandboxError, SandboxLostError
from pysandpool._execute.encode import Environ, Word
from pysandpool._ffi import check, lib
from pysandpool._process.handle import ProcessHandle, Program
from pysandpool._process.streams import PIPE, Streams

Look = Optional[tuple[int, float]]
Step = Callable[[], Look]

CLOSE_SECONDS = 1.0
"""How long a session that is closed may take to end by itself."""
START_SECONDS = 10.0
"""From the request to the moment when the interpreter runs. It includes `warmup` and `after_fork`."""
_PIECE = 1 << 16
_TURN = 1 << 20
"""Bytes of one output that are read in one step: as much as a pipe can hold."""


class CodeProcess:
    """The process of a session, and the descriptors by which the host talks to it.

    `handle` is the process as the C core has it, `near` the host's end of the channel, `outputs` those of stdout and
    stderr. They belong to this object from now on.
    """

    __slots__ = (
        "_ends",
        "_handle",
        "_near",
        "_outputs",
        "_poll",
        "_registered",
        "ended",
        "exit_code",
        "killed",
        "oom_killed",
        "pid",
        "place",
        "signal",
        "usage",
    )

    def __init__(self, place: CodePlace, handle: ProcessHandle, near: int, outputs: tuple[int, int]) -> None:
        self.place = place
        self.ended = self.killed = self.oom_killed = False
        self.pid = 0
        self.exit_code: int | None = None
        self.signal: int | None = None
        self.usage = (0.0, 0.0, 0)
        self._handle: ProcessHandle | None = handle
        self._near = near
        self._outputs = list(outputs)
        self._ends = [handle.fileno()]
        self._registered: dict[int, int] = {}
        self._poll = select.epoll()
        os.set_blocking(near, False)
        for fd in outputs:
            os.set_blocking(fd, False)
            self._watch(fd, select.EPOLLIN)
        self._watch(near, select.EPOLLIN)
        self._watch(self._ends[0], select.EPOLLIN)

    def fileno(self) -> int:
        """A descriptor that is readable when there is something to do; -1 after `close()`."""
        return -1 if self._poll.closed else self._poll.fileno()

    def descriptors(self) -> tuple[int, ...]:
        """Those that are readable when the process has sent something, and when there is news about it."""
        handle = self._handle
        return self._near, *(() if handle is None or self.ended else (handle.fileno(),))

    def __del__(self) -> None:
        if getattr(self, "_poll", None) is None:
            return
        # In a garbage cycle the order is arbitrary: the pool may be freed before this, and with it all processes.
        self.ended = self.ended or self.place.held.freed
        self.close()

    def close(self) -> None:
        """Kills the process if it lives, and closes all descriptors."""
        if not self.ended:
            self.kill()
        self._handle = None  # another thread may be using it; the last one closes its socket
        self._poll.close()
        near, self._near = self._near, -1
        for fd in (near, *self._outputs):
            if fd != -1:
                os.close(fd)
        self._outputs = [-1, -1]

    def kill(self) -> None:
        """Sends SIGKILL by way of init, which knows whether the pid is still that of the process."""
        self.killed = True
        handle = self._handle
        if handle is not None and not self.ended:
            with contextlib.suppress(SandboxError):
                handle.signal(signal.SIGKILL)

    def hang_up(self) -> None:
        """Lets the process know that no further cell comes."""
        with contextlib.suppress(OSError), _as_socket(self._near) as near:
            near.shutdown(socket.SHUT_WR)

    # ---- the process ----

    def look(self) -> int:
        """Takes over what is new about the process. Returns its state, SP_PROCESS_*."""
        if self._handle is None:
            return int(lib.SP_PROCESS_ENDED)
        status = self._handle.look()
        self.pid = self.pid or status.pid
        if status.state == lib.SP_PROCESS_ENDED and not self.ended:
            self.ended = True
            self.signal = status.signal or None
            self.exit_code = None if status.signal else status.exit_code
            self.oom_killed = bool(status.oom_killed)
            self.usage = (status.user_us / 1e6, status.system_us / 1e6, status.max_rss_bytes)
            self._registered.pop(self._ends[0], None)  # C has closed it, and so it has left the set
        return int(status.state)

    def starting(self) -> Step:
        """Steps until the interpreter runs. Raises why it does not."""
        deadline = time.monotonic() + START_SECONDS

        def step() -> Look:
            state, left = self.look(), deadline - time.monotonic()
            if state >= lib.SP_PROCESS_RUNNING:
                return None
            if left < 0:
                raise SandboxError(f"the session was not started within {START_SECONDS:g} s")
            return -1 if self._handle is None else self._handle.fileno(), left

        return step

    def ending(self, seconds: float) -> Step:
        """Steps until the process has ended, or the time has passed. Its outputs are dropped."""
        deadline = time.monotonic() + seconds

        def step() -> Look:
            self.look()
            left = deadline - time.monotonic()
            if self.ended or left <= 0:
                return None
            for n in range(2):
                self.read_output(n)
            self.read_channel()
            return self.fileno(), left

        return step

    def explain_end(self) -> None:
        """Raises why the lease is no place for sessions any more; nothing if it still is one."""
        check(lib.sp_lease_pid(self.place.pool, self.place.handle), self.place.pool)

    # ---- the channel and the outputs ----

    def send(self, data: memoryview, descriptors: list[int]) -> int:
        """Sends what finds room. Returns the number of bytes. The descriptors go with the first of them."""
        controls: list[Any] = []
        if descriptors:
            controls = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))]
        try:
            with _as_socket(self._near) as near:
                return near.sendmsg([data[:_PIECE]], controls, socket.MSG_NOSIGNAL)
        except BlockingIOError:
            return 0
        except OSError:  # the process has closed its end: its end is about to be seen
            return len(data)

    def wait_for_room(self, wanted: bool) -> None:
        """Whether `fileno()` is readable as well when the channel takes more."""
        if self._near in self._registered:
            self._watch(self._near, select.EPOLLIN | (select.EPOLLOUT if wanted else 0))

    def read_channel(self) -> bytes | None:
        """What has come; None at the end of the channel."""
        try:
            found = os.read(self._near, _PIECE)
        except BlockingIOError:
            return b""
        except OSError:
            found = b""
        if not found:
            self._watch(self._near, 0)
        return found or None

    def read_output(self, n: int) -> bytes:
        """What has come of stdout (0) or stderr (1), up to a turn; nothing after its end."""
        pieces = bytearray()
        while self._outputs[n] != -1 and len(pieces) < _TURN:
            try:
                piece = os.read(self._outputs[n], _PIECE)
            except BlockingIOError:
                break
            if not piece:
                self._watch(self._outputs[n], 0)
                os.close(self._outputs[n])
                self._outputs[n] = -1
            pieces += piece
        return bytes(pieces)

    def _watch(self, fd: int, events: int) -> None:
        before = self._registered.get(fd, 0)
        if events == before or fd == -1:
            return
        if not events:
            self._poll.unregister(fd)
            del self._registered[fd]
            return
        (self._poll.modify if before else self._poll.register)(fd, events)
        self._registered[fd] = events


@contextlib.contextmanager
def _as_socket(fd: int) -> Iterator[socket.socket]:
    """The descriptor of a unix socket as an object of Python, which would warn if the garbage collector closed it."""
    near = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, 0, fd)
    try:
        yield near
    finally:
        near.detach()


def start_process(place: CodePlace, env: Environ | None, cwd: Word | None) -> CodeProcess:
    """Asks init for the process of a session. It does not run yet: see `CodeProcess.starting`."""
    place.require_copies()
    opened = Streams(None, PIPE, PIPE)
    near, far = socket.socketpair()
    try:
        program = Program((b"session", b"{}"), env, cwd, None, False, far.fileno())
        streams = (opened.fds, opened.own_pipes)
        handle = ProcessHandle(place.held, place.handle, program, streams, place.defaults)
        opened.close_far()
        process = CodeProcess(place, handle, near.detach(), (opened.near[1], opened.near[2]))
    except BaseException:
        near.close()
        raise
    else:
        opened.near = [-1, -1, -1]
        return process
    finally:
        far.close()
        opened.close()


def lost() -> SandboxLostError:
    """The error of a process whose init does not end it."""
    return SandboxLostError("the sandbox did not end a process of a session in time")
