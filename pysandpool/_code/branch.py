"""Copies of the process of a session, in steps that do not wait.

The session makes each copy and gives it a channel and outputs that the host has sent. The copy sends one byte over its
control socket, to which the kernel adds its pid. init, whose child the copy is, reports on it from then on.
"""

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

from pysandpool._code.messages import branch_errno
from pysandpool._code.process import CodeProcess, Look
from pysandpool._errors import SandboxError, SessionEndedError
from pysandpool._execute.run import NO_MORE_PROCESSES
from pysandpool._ffi import lib
from pysandpool._process.handle import ProcessHandle, Program
from pysandpool._process.streams import PIPE, Streams

MAX_COPIES = 64
_SECONDS = 10.0
_LINE = b'{"t":"branch"}\n'
_CREDENTIALS = struct.Struct("3i")
_MAX_ANSWERS = 1 << 16
_MAX_ERRNO = 4096
_FIRST_PAUSE, _LONGEST_PAUSE = 0.0002, 0.05
_END_SECONDS = 0.1
"""How long a session may live on after a copy that was not ready: whoever kills a sandbox kills them one by one."""
_GONE = "a copy of the session ended before it was ready"


class Branching:
    """Makes `n` copies of the process. After the last step `take()` returns them."""

    def __init__(self, process: CodeProcess, n: int) -> None:
        self._process = process
        self._poll = select.epoll()
        for fd in process.descriptors():
            self._poll.register(fd, select.EPOLLIN)
        self._wanted = n
        self._births: list[_Birth] = []
        self._answers = bytearray()
        self._deadline = time.monotonic() + _SECONDS
        self._hung_up = False
        self._gone_at = math.inf
        self.problem: SandboxError | None = None
        """why there are no copies"""
        self.must_end = False
        """the session may be out of step with the host, and has to be ended"""

    @property
    def is_under_way(self) -> bool:
        """Whether it is not known yet, for some copy, if it was made."""
        return len(self._births) < self._wanted or any(birth.is_open for birth in self._births)

    def take(self) -> list[CodeProcess]:
        """The copies, which belong to the caller from now on. Raises why there are none."""
        if self.problem is not None:
            raise self.problem
        return [birth.take() for birth in self._births]

    def close(self) -> None:
        """Closes all that is not the caller's, and kills the copies that nobody took."""
        self._poll.close()
        for birth in self._births:
            birth.close()

    def step(self) -> Look:
        """One turn. None: it is over."""
        self._send()
        self._process.look()
        for birth in self._births:
            birth.advance(self._poll)
        # A session answers before it closes the ends of a copy that it could not make.
        self._read_answers()
        for birth in self._births:
            birth.settle()
        self._look_for_problems()
        if self.must_end or not self.is_under_way:
            return self._await_end_of_all()
        due = min([self._deadline, *(birth.again_at for birth in self._births)])
        return self._poll.fileno(), max(0.0, due - time.monotonic())

    def _await_end_of_all(self) -> Look:
        """A copy that is gone may be the first of all that have ended."""
        if self.must_end or self._process.ended or not any(birth.is_gone for birth in self._births):
            return None
        now = time.monotonic()
        self._gone_at = min(self._gone_at, now)
        left = self._gone_at + _END_SECONDS - now
        return (self._poll.fileno(), left) if left > 0 else None

    def _send(self) -> None:
        while len(self._births) < self._wanted and not self.must_end:
            birth = _Birth(self._process)
            self._births.append(birth)
            # Requests are short: if there is no room for one, the session does not read.
            if self._process.send(memoryview(_LINE), birth.far()) != len(_LINE):
                self._fail(SandboxError("the session does not read its requests"))
                return
            birth.sent(self._poll)

    def _read_answers(self) -> None:
        while not (self._hung_up or self.must_end):
            found = self._process.read_channel()
            if found is None:
                self._hung_up = True
                self._poll.unregister(self._process.descriptors()[0])
                return
            if not found:
                return
            self._answers += found
            *lines, rest = self._answers.split(b"\n")
            self._answers = bytearray(rest)
            for line in lines:
                self._take_answer(bytes(line))
            if len(self._answers) > _MAX_ANSWERS:
                self._take_answer(b"")

    def _take_answer(self, line: bytes) -> None:
        """It is for the first copy that has not come: the session serves one request after the other."""
        number = branch_errno(line)
        birth = next((one for one in self._births if one.is_awaited), None)
        if number is None or birth is None or not 0 < number < _MAX_ERRNO:
            self._fail(SandboxError("the session gave a malformed answer"))
            return
        words, hint = os.strerror(number), NO_MORE_PROCESSES if number == errno.EAGAIN else ""
        birth.refuse(SandboxError(f"the session could not be copied: {words}", number, "spawn", hint))

    def _look_for_problems(self) -> None:
        if self.problem is None:
            self.problem = next((one.problem for one in self._births if one.problem is not None), None)
        if self._process.ended and any(one.is_awaited for one in self._births):
            self._fail(SessionEndedError("the process of this session ended while it was copied"))
        elif time.monotonic() >= self._deadline:
            self._fail(SandboxError(f"the session was not copied within {_SECONDS:g} s"))

    def _fail(self, problem: SandboxError) -> None:
        self.problem = problem
        self.must_end = True


class _Birth:
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
                self._pid_inside = _pid_inside(self._pid)
            except OSError as error:
                self.is_gone = True
                self.refuse(SandboxError(_GONE, error.errno, "spawn"))
                return
            self._adopt(poll)

    def _adopt(self, poll: select.epoll) -> None:
        place = self._place
        program = Program((b"branch",), None, None, None, False, adopts=(self._pidfd, self._pid_inside))
        streams = ((-1, -1, -1), 0)
        self._again_at = math.inf
        self._handle = ProcessHandle(place.keeper, place.pool, place.handle, program, streams, place.defaults)
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


def _pid_inside(pid: int) -> int:
    """The pid that this process has in its innermost namespace, which is the sandbox's. Raises OSError.

    It is right if the process has not been reaped when init looks, for then no other one had its pid meanwhile.
    """
    with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as file:
        pids = [line.split() for line in file if line.startswith("NSpid:")]
    return int(pids[0][-1])
