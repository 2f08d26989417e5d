"""Copies of the process of a session, in steps that do not wait.

The session makes each copy and gives it a channel and outputs that the host has sent. The copy sends one byte over its
control socket, to which the kernel adds its pid. init, whose child the copy is, reports on it from then on.
"""

from __future__ import annotations

import errno
import os
import select
import time

from pysandpool._code.birth import Birth, Inquiry
from pysandpool._code.messages import branch_errno
from pysandpool._code.process import CodeProcess, Look
from pysandpool._errors import SandboxError, SessionEndedError
from pysandpool._execute.run import NO_MORE_PROCESSES

MAX_COPIES = 64
_SECONDS, _SECONDS_FOR_EACH = 10.0, 0.5
"""How long it may take to make copies."""
_LINE = b'{"t":"branch"}\n'
_MAX_ANSWERS = 1 << 16
_MAX_ERRNO = 4096


class Branching:
    """Makes `n` copies of the process. After the last step `take()` returns them."""

    def __init__(self, process: CodeProcess, n: int) -> None:
        self._process = process
        self._poll = select.epoll()
        for fd in process.descriptors():
            self._poll.register(fd, select.EPOLLIN)
        self._wanted = n
        self._births: list[Birth] = []
        self._answers = bytearray()
        self._seconds = _SECONDS + n * _SECONDS_FOR_EACH
        self._deadline = time.monotonic() + self._seconds
        self._hung_up = False
        self._inquiry: Inquiry | None = None
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
        if self._inquiry is not None:
            self._inquiry.close()
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
        if self._inquiry is None:
            self._inquiry = Inquiry(self._process, self._poll)
        self._inquiry.look()
        left = self._deadline - time.monotonic()
        return None if self._inquiry.answered or left <= 0 else (self._poll.fileno(), left)

    def _send(self) -> None:
        while len(self._births) < self._wanted and not self.must_end:
            birth = Birth(self._process)
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
            self._fail(SandboxError(f"the session was not copied within {self._seconds:g} s"))

    def _fail(self, problem: SandboxError) -> None:
        self.problem = problem
        self.must_end = True
