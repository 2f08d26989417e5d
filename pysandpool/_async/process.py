"""`AsyncSandboxProcess`: a process beside the commands of a lease, for the tasks of an event loop."""

from __future__ import annotations

import contextlib
import math
import operator
import os
import signal
import time
from collections.abc import Awaitable
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn

from pysandpool._async.backend import Backend, Event, Look
from pysandpool._async.communicate import AsyncExchange
from pysandpool._async.current import current
from pysandpool._async.done import DONE
from pysandpool._async.stream import AsyncReader
from pysandpool._async.writer import AsyncWriter
from pysandpool._errors import SandboxError
from pysandpool._execute.encode import Words, command_name
from pysandpool._execute.text import Coding
from pysandpool._ffi import lib
from pysandpool._process.arguments import deadline_of, encoded_input, expired, resize_terminal
from pysandpool._process.handle import ProcessHandle
from pysandpool._process.streams import Streams, ended_terminal

if TYPE_CHECKING:
    from typing_extensions import Buffer, Self

    from pysandpool._config.fields import Duration

_START_SECONDS = 10.0
_END_SECONDS = 5.0
"""From SIGKILL to the end, while a block is left because of an exception."""
_LONG = 3600.0


class AsyncSandboxProcess:
    """A `SandboxProcess` whose calls are awaited. `AsyncPooledSandbox.popen()` returns it."""

    __slots__ = (
        "__weakref__",
        "_coding",
        "_driven",
        "_exchange",
        "_found",
        "_handle",
        "_oom_killed",
        "_returncode",
        "_terminal",
        "_timed_out",
        "_waiting",
        "args",
        "pid",
        "stderr",
        "stdin",
        "stdout",
    )

    args: Words
    """The command and its arguments."""
    stdin: AsyncWriter | None
    """What to write to if `stdin=PIPE` or `pty=True`, else None: `await p.stdin.write(data)`, `p.stdin.close()`."""
    stdout: AsyncReader | None
    """What to read from if `stdout=PIPE` or `pty=True`, else None: `async for line in p.stdout`, `await
    p.stdout.read(n)`, `await p.stdout.readline()`."""
    stderr: AsyncReader | None
    """The same for `stderr=PIPE`."""
    pid: int
    """The pid of the process as the host sees it; 0 if it was killed, by its `timeout` perhaps, before it had one."""

    def __init__(self, handle: ProcessHandle, args: Words, coding: Coding | None) -> None:
        self._handle = handle
        self._coding = coding
        self._returncode: int | None = None
        self._timed_out = self._oom_killed = self._driven = False
        self._waiting: list[Event] = []
        self._exchange: AsyncExchange | None = None
        self._found: tuple[Any, Any] | None = None
        self._terminal = -1
        self.args = args
        self.stdin = self.stdout = self.stderr = None
        self.pid = 0

    @property
    def returncode(self) -> int | None:
        """The exit code, or the negative number of the signal that killed it; None as long as no call has seen the end.

        -9 when the process ended with its lease.
        """
        return self._returncode

    @property
    def timed_out(self) -> bool:
        """Whether it was killed because it ran longer than its `timeout`."""
        return self._timed_out

    @property
    def oom_killed(self) -> bool:
        """Whether it was killed because the sandbox exceeded its memory limit."""
        return self._oom_killed

    def poll(self) -> int | None:
        """Looks whether the process has ended. Returns `returncode`. It never waits, and is not awaited."""
        if self._returncode is None:
            self._look()
        return self._returncode

    async def wait(self, timeout: Duration | None = None) -> int:
        """Waits until the process has ended. Returns `returncode`. If it is cancelled, the process runs on.

        Raises:
            subprocess.TimeoutExpired: it runs longer than `timeout`, seconds or a timedelta, from now. It runs on.
        """
        if not await self._await_end(deadline_of(timeout)):
            raise expired(self.args, timeout)
        assert self._returncode is not None
        return self._returncode

    async def communicate(self, input: Buffer | str | None = None, timeout: Duration | None = None) -> tuple[Any, Any]:
        """Writes `input` to stdin, reads stdout and stderr to their ends, closes all three, and waits for the process.

        Arguments, results and errors are those of `SandboxProcess.communicate`. After a cancellation or a timeout the
        process runs on, and another call goes on from there.
        """
        deadline = deadline_of(timeout)
        if self._found is not None:
            return self._found
        if self._exchange is None:
            self._exchange = self._new_exchange(input)
        if not await self._exchange.run_on(current(), deadline) or not await self._await_end(deadline):
            out, err = self._exchange.taken_of(self.stdout), self._exchange.taken_of(self.stderr)
            raise expired(self.args, timeout, out, err)
        self._found = self._all_of(self.stdout), self._all_of(self.stderr)
        return self._found

    def send_signal(self, sig: int) -> Awaitable[None]:
        """Sends a signal to the process at once; does nothing if it has ended. What it returns need not be awaited.

        Raises:
            ValueError: there is no signal of this number.
            SandboxError: the sandbox does not read what is sent to it.
        """
        number = operator.index(sig)
        if number and number not in signal.valid_signals():
            raise ValueError(f"sig = {sig!r} is not allowed; expected: the number of a signal")
        if number and self._returncode is None and not self._handle.signal(number):
            raise SandboxError("the sandbox does not read the signals that are sent to it")
        return DONE

    def terminate(self) -> Awaitable[None]:
        """Sends SIGTERM to the process; does nothing if it has ended."""
        return self.send_signal(signal.SIGTERM)

    def kill(self) -> Awaitable[None]:
        """Sends SIGKILL to the process; does nothing if it has ended."""
        return self.send_signal(signal.SIGKILL)

    def resize(self, rows: int, cols: int) -> None:
        """Sets the size of the terminal; its foreground processes get SIGWINCH. See `SandboxProcess.resize`."""
        if self._terminal == -1 or self.stdout is None:
            raise ValueError("the process has no terminal: start it with pty=True")
        resize_terminal(self.stdout.fileno(), rows, cols)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Closes the pipes and waits for the process. After an exception, or a cancellation, it is killed first."""
        if kind is not None:
            with contextlib.suppress(SandboxError):
                self.kill()
        for file in (self.stdout, self.stderr):
            if file is not None:
                with contextlib.suppress(RuntimeError):  # another task waits for it, until the process has ended
                    file.close()
        if self.stdin is not None:
            with contextlib.suppress(RuntimeError, OSError):
                if kind is None and not self.stdin.closed:
                    await self.stdin.drain()
                self.stdin.abort()
        if kind is None:
            await self.wait()
        elif kind is not GeneratorExit:
            with current().shielded():
                await self._await_end(deadline_of(_END_SECONDS))

    def __reduce__(self) -> NoReturn:
        raise TypeError("an AsyncSandboxProcess can be neither copied nor pickled")

    def __repr__(self) -> str:
        state = f"returncode={self._returncode}" if self._returncode is not None else "running"
        return f"<AsyncSandboxProcess {command_name(self.args)!r} pid={self.pid} {state}>"

    # ---- the state ----

    async def start(self, streams: Streams) -> None:
        """Waits until the process has executed its program, and takes over the caller's ends of the streams."""
        deadline = time.monotonic() + _START_SECONDS

        def step() -> Look:
            state, left = self._look(), deadline - time.monotonic()
            if state < lib.SP_PROCESS_RUNNING and left < 0:
                raise SandboxError(f"{command_name(self.args)!r} was not started within {_START_SECONDS:g} s")
            return (self._handle.fileno(), left) if state < lib.SP_PROCESS_RUNNING else None

        await current().drive(step, steady=False)
        if self._terminal == -1 and self._handle.wants_terminal:
            self._terminal = ended_terminal()
        if self._terminal != -1:
            self.stdin = AsyncWriter(os.dup(self._terminal), self._coding)
            self.stdout = AsyncReader(self._terminal, self._coding)
            return
        ends, streams.near = streams.near, [-1, -1, -1]
        self.stdin = AsyncWriter(ends[0], self._coding) if ends[0] != -1 else None
        self.stdout = AsyncReader(ends[1], self._coding) if ends[1] != -1 else None
        self.stderr = AsyncReader(ends[2], self._coding) if ends[2] != -1 else None

    def _look(self) -> int:
        """Takes over what is new. Returns the state."""
        status = self._handle.look()
        self.pid = self.pid or status.pid
        if status.terminal != -1:
            self._terminal = status.terminal
        if status.state == lib.SP_PROCESS_ENDED and self._returncode is None:
            self._timed_out, self._oom_killed = bool(status.timed_out), bool(status.oom_killed)
            self._returncode = -status.signal if status.signal else status.exit_code
        return int(status.state)

    async def _await_end(self, deadline: float) -> bool:
        """Waits for the end. False: the deadline has passed before. Of several tasks, one has the descriptor."""
        backend = current()

        def step() -> Look:
            left = deadline - time.monotonic()
            return None if self.poll() is not None or left <= 0 else (self._handle.fileno(), min(left, _LONG))

        while self.poll() is None and time.monotonic() < deadline:
            if self._driven:
                await self._await_other(backend, deadline)
                continue
            self._driven = True
            try:
                await backend.drive(step, steady=False)
            finally:
                self._driven = False
                for event in self._waiting:  # one of these goes on
                    event.set()
                self._waiting.clear()
        return self._returncode is not None

    async def _await_other(self, backend: Backend, deadline: float) -> None:
        """Waits until the task that has the descriptor leaves it."""
        event = backend.event()
        self._waiting.append(event)

        def step() -> Look:
            left = deadline - time.monotonic()
            return None if event.is_set() or left <= 0 else (-1, min(left, 0.05))

        if deadline == math.inf:
            await event.wait()
        else:
            await backend.drive(step, steady=False)

    # ---- communicate ----

    def _new_exchange(self, data: Buffer | str | None) -> AsyncExchange:
        encoded = encoded_input(data, has_stdin=self.stdin is not None, coding=self._coding)
        if self.stdin is not None:
            encoded = self.stdin.take_left() + encoded
        outputs = [file for file in (self.stdout, self.stderr) if file is not None]
        return AsyncExchange(self.stdin, outputs, encoded)

    def _all_of(self, file: AsyncReader | None) -> bytes | str | None:
        """What was not read of this output before, which is closed then."""
        assert self._exchange is not None
        if file is None:
            return None
        if file.closed:
            return b"" if self._coding is None else ""
        found: bytes | str = file.with_rest(self._exchange.taken_of(file) or b"")
        file.close()
        return found
