"""One copy of the process of a session: its descriptors, its first sign of life, and its adoption by init."""

from __future__ import annotations

import contextlib
import errno
import math
import os
import select
import signal
import socket
import struct
import time

from pysandpool._code.place import CodePlace
from pysandpool._code.process import CodeProcess
from pysandpool._errors import SandboxError, SandboxLostError
from pysandpool._ffi import lib
from pysandpool._process.handle import ProcessHandle, Program
from pysandpool._process.streams import PIPE, Streams

_CREDENTIALS = struct.Struct("3i")
_FIRST_PAUSE, _LONGEST_PAUSE = 0.0002, 0.05
_GONE = "a copy of the session ended before it was ready"


class Birth:
    """One copy that is being made."""

    def __init__(self, session: CodeProcess) -> None:
        self._place = session.place
        self._streams = Streams(None, PIPE, PIPE)
        self._sockets = [*socket.socketpair(), *socket.socketpair()]
        self._near, self._far, self._control, self._control_far = self._sockets
        self._control.setblocking(False)
        self._control.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self._handle: ProcessHandle | None = None
        self._process: CodeProcess | None = None
        self._pid = 0
        self._pidfd = -1
        self._pid_inside = 0
        self._pause = _FIRST_PAUSE
        self._again_at = math.inf
        self._is_silent = False
        self.is_gone = False
        """whether it ended before it was ready"""
        self.is_open = True
        """whether there is something to wait for"""
        self.problem: SandboxError | None = None

    @property
    def again_at(self) -> float:
        """When to ask init once more."""
        return self._again_at

    @property
    def is_awaited(self) -> bool:
        """Whether the copy has not shown itself yet."""
        return self.is_open and not self._pid

    def far(self) -> list[int]:
        """The descriptors of the copy, in the order of the request."""
        return [self._far.fileno(), self._streams.fds[1], self._streams.fds[2], self._control_far.fileno()]

    def sent(self, poll: select.epoll) -> None:
        """The session has them: nobody else is to hold them."""
        self._far.close()
        self._control_far.close()
        self._streams.close_far()
        poll.register(self._control.fileno(), select.EPOLLIN)

    def advance(self, poll: select.epoll) -> None:
        """Goes on as far as that is possible without waiting."""
        if self.is_awaited and not self._is_silent:
            self._hear(poll)
        if self.is_open and time.monotonic() >= self._again_at:
            self._adopt(poll)
        if self.is_open and self._handle is not None:
            self._look(self._handle)

    def settle(self) -> None:
        """A copy that has ended, and of which the session says nothing."""
        if self.is_awaited and self._is_silent:
            self.is_gone = True
            self.refuse(SandboxError(_GONE))

    def refuse(self, problem: SandboxError) -> None:
        """There will be no copy."""
        self.problem = problem
        self.is_open = False

    def take(self) -> CodeProcess:
        """The process, which belongs to the caller from now on."""
        found, self._process = self._process, None
        assert found is not None
        return found

    def close(self) -> None:
        """Closes what it holds, and kills the copy if nobody took it."""
        self.is_open = False
        if self._process is not None:
            self._process.close()
        elif self._handle is not None:
            with contextlib.suppress(SandboxError):
                self._handle.signal(signal.SIGKILL)
            self._handle = None
        fd, self._pidfd = self._pidfd, -1
        if fd != -1:
            os.close(fd)
        for one in self._sockets:
            one.close()
        self._streams.close()

    def _hear(self, poll: select.epoll) -> None:
        try:
            piece, controls, _, _ = self._control.recvmsg(1, socket.CMSG_SPACE(_CREDENTIALS.size))
        except BlockingIOError:
            return
        except OSError:
            piece, controls = b"", []
        poll.unregister(self._control.fileno())
        self._is_silent = not piece
        for level, kind, data in controls:
            if piece and (level, kind) == (socket.SOL_SOCKET, socket.SCM_CREDENTIALS):
                self._pid = _CREDENTIALS.unpack(data[: _CREDENTIALS.size])[0]
        if self._pid > 0:
            try:
                self._pidfd = os.pidfd_open(self._pid)
                self._pid_inside = pid_inside(self._pid)
            except OSError as error:
                self.is_gone = True
                self.refuse(SandboxError(_GONE, error.errno, "spawn"))
                return
            self._adopt(poll)

    def _adopt(self, poll: select.epoll) -> None:
        self._again_at = math.inf
        self._handle = _adoption(self._place, self._pidfd, self._pid_inside)
        poll.register(self._handle.fileno(), select.EPOLLIN)

    def _is_dead(self) -> bool:
        ready = select.poll()
        ready.register(self._pidfd, select.POLLIN)
        return bool(ready.poll(0))

    def _look(self, handle: ProcessHandle) -> None:
        try:
            if handle.look().state < lib.SP_PROCESS_RUNNING:
                return
        except SandboxError as error:
            self._handle = None
            handle.close()
            if error.errno == errno.ESRCH and not self._is_dead():
                # It lives, but the process that made it has not ended yet: init is not its parent.
                self._again_at = time.monotonic() + self._pause
                self._pause = min(2 * self._pause, _LONGEST_PAUSE)
                return
            self.refuse(error)
            return
        self._sockets.remove(self._near)
        near, self._streams.near = self._streams.near, [-1, -1, -1]
        self._process = CodeProcess(self._place, handle, self._near.detach(), (near[1], near[2]))
        self._process.pid = self._pid
        self._handle = None
        self.is_open = False


class Inquiry:
    """Asks init for a sign of life: it refuses to adopt a session, because it has that process already.

    Whoever ends a sandbox kills its processes one by one, but marks init before any process that it has started: so if
    init answers a request that was sent after a copy had ended, it was only the copy. Else the end of the session, and
    of the lease, is about to be seen.
    """

    def __init__(self, session: CodeProcess, poll: select.epoll) -> None:
        self.answered = False
        self._handle: ProcessHandle | None = None
        try:
            pidfd = os.pidfd_open(session.pid)
        except OSError:  # the session has ended, and its end is about to be seen
            return
        try:
            self._handle = _adoption(session.place, pidfd, pid_inside(session.pid))
            poll.register(self._handle.fileno(), select.EPOLLIN)
        except (OSError, SandboxError):
            return
        finally:
            os.close(pidfd)

    def look(self) -> None:
        """Sets `answered` if init has answered."""
        handle = self._handle
        try:
            if handle is None or handle.look().state < lib.SP_PROCESS_RUNNING:
                return
        except SandboxLostError:
            self.close()
            return
        except SandboxError:
            pass
        self.answered = True
        self.close()

    def close(self) -> None:
        """Closes what it holds."""
        handle, self._handle = self._handle, None
        if handle is not None:
            handle.close()


def _adoption(place: CodePlace, pidfd: int, pid: int) -> ProcessHandle:
    """Asks init to take the process of this pidfd, which has this pid in the sandbox, for one that it has started."""
    program = Program((b"branch",), None, None, None, False, adopts=(pidfd, pid))
    return ProcessHandle(place.held, place.handle, program, ((-1, -1, -1), 0), place.defaults)


def pid_inside(pid: int) -> int:
    """The pid that this process has in its innermost namespace, which is the sandbox's. Raises OSError.

    It is right if the process has not been reaped when init looks, for then no other one had its pid meanwhile.
    """
    with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as file:
        pids = [line.split() for line in file if line.startswith("NSpid:")]
    return int(pids[0][-1])
