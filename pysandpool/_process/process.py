"""`SandboxProcess`: a process that runs beside the commands of a lease."""

from __future__ import annotations

import operator
import os
import select
import signal
import threading
import time
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, NoReturn

from pysandpool._errors import SandboxError
from pysandpool._execute.encode import Words, command_name
from pysandpool._execute.run import CommandDefaults, prepare_lease
from pysandpool._ffi import lib
from pysandpool._process.arguments import deadline_of, encoded_input, expired, resize_terminal
from pysandpool._process.exchange import Exchange
from pysandpool._process.handle import Held, ProcessHandle, Program
from pysandpool._process.streams import FileKind, Stream, Streams, ended_terminal, terminal_files, with_rest

if TYPE_CHECKING:
    from typing_extensions import Buffer, Self

    from pysandpool._config.fields import Duration

_START_SECONDS = 10.0
"""From the request to the exec. A tenant can stop a process that is about to start."""
_SIGNAL_SECONDS = 1.0
_SLICE_MS = 250
"""Another thread may have closed the descriptor that this one is about to wait for: it looks again after this time."""


class SandboxProcess:
    """A process of a lease, as `subprocess.Popen` has it. `PooledSandbox.popen()` returns it.

    At the latest it ends with its lease; then its `returncode` is -9. It refers to its lease until a call has seen that
    it has ended, so that the lease is not garbage-collected before.
    """

    __slots__ = (
        "__weakref__",
        "_coding",
        "_exchange",
        "_found",
        "_handle",
        "_lock",
        "_oom_killed",
        "_returncode",
        "_terminal",
        "_timed_out",
        "args",
        "pid",
        "stderr",
        "stdin",
        "stdout",
    )

    args: Words
    """The command and its arguments."""
    stdin: IO[Any] | None
    """The file to write to if `stdin=PIPE` or `pty=True`, else None."""
    stdout: IO[Any] | None
    """The file to read from if `stdout=PIPE` or `pty=True`, else None. Iterating over it yields lines as they come."""
    stderr: IO[Any] | None
    """The same for `stderr=PIPE`."""
    pid: int
    """The pid of the process as the host sees it; 0 if it was killed, by its `timeout` perhaps, before it had one."""

    def __init__(self, handle: ProcessHandle, args: Words, streams: Streams, kind: FileKind) -> None:
        self._handle = handle
        self._lock = threading.Lock()
        self._returncode: int | None = None
        self._timed_out = self._oom_killed = False
        self._exchange: Exchange | None = None
        self._found: tuple[Any, Any] | None = None
        self._coding = kind.coding
        self._terminal = -1
        self.args = args
        self.stdin = self.stdout = self.stderr = None
        self.pid = 0
        try:
            self._await_start()
            if self._terminal == -1 and handle.wants_terminal:
                self._terminal = ended_terminal()
            if self._terminal != -1:
                self.stdin, self.stdout = terminal_files(self._terminal, kind)
            else:
                self.stdin, self.stdout, self.stderr = streams.files(kind)
        except BaseException:
            handle.signal(signal.SIGKILL)
            handle.close()
            if self._terminal != -1 and self.stdout is None:
                os.close(self._terminal)
            for file in (self.stdin, self.stdout, self.stderr):
                if file is not None:
                    file.close()
            raise

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
        """Looks whether the process has ended. Returns `returncode`.

        Raises:
            SandboxLostError: another part of this program has closed the descriptor of the process.
            PoolStateError: the lease belongs to the parent of this process.
        """
        if self._returncode is None:
            self._look()
        return self._returncode

    def wait(self, timeout: Duration | None = None) -> int:
        """Waits until the process has ended. Returns `returncode`.

        Raises:
            subprocess.TimeoutExpired: it runs longer than `timeout`, seconds or a timedelta, from now. It runs on.
        """
        if not self._await_news(deadline_of(timeout)):
            raise expired(self.args, timeout)
        assert self._returncode is not None
        return self._returncode

    def communicate(self, input: Buffer | str | None = None, timeout: Duration | None = None) -> tuple[Any, Any]:
        """Writes `input` to stdin, reads stdout and stderr to their ends, closes all three, and waits for the process.

        Args:
            input: bytes, or a str if the process was started with `text=True`.
            timeout: seconds or a timedelta; None means no limit.

        Returns:
            What was read of stdout and of stderr; None for one that is no pipe.

        Raises:
            subprocess.TimeoutExpired: it takes longer. The process runs on, and another call goes on from there.
            ValueError: there is input, but stdin is no pipe.
        """
        deadline = deadline_of(timeout)
        if self._found is not None:
            return self._found
        if self._exchange is None:
            self._exchange = self._new_exchange(input)
        if not self._exchange.run(deadline) or not self._await_news(deadline):
            out, err = self._exchange.taken(self.stdout), self._exchange.taken(self.stderr)
            raise expired(self.args, timeout, out, err)
        self._found = self._all_of(self.stdout), self._all_of(self.stderr)
        return self._found

    def send_signal(self, sig: int) -> None:
        """Sends a signal to the process; does nothing if it has ended, or if `sig` is 0.

        Raises:
            ValueError: there is no signal of this number.
            SandboxError: the sandbox does not read what is sent to it.
        """
        number = operator.index(sig)
        if number and number not in signal.valid_signals():
            raise ValueError(f"sig = {sig!r} is not allowed; expected: the number of a signal")
        until = time.monotonic() + _SIGNAL_SECONDS
        while number and self._returncode is None and not self._handle.signal(number):
            if time.monotonic() > until:
                raise SandboxError("the sandbox does not read the signals that are sent to it")
            time.sleep(0.001)

    def terminate(self) -> None:
        """Sends SIGTERM to the process; does nothing if it has ended."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Sends SIGKILL to the process; does nothing if it has ended."""
        self.send_signal(signal.SIGKILL)

    def resize(self, rows: int, cols: int) -> None:
        """Sets the size of the terminal; its foreground processes get SIGWINCH.

        Raises:
            ValueError: the process was started without `pty=True`, or a number is not in 1 ... 65535.
        """
        if self._terminal == -1 or self.stdout is None:
            raise ValueError("the process has no terminal: start it with pty=True")
        resize_terminal(self.stdout.fileno(), rows, cols)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Closes the pipes and waits for the process. After an exception it is killed first."""
        if kind is not None:
            self.kill()
        for file in (self.stdout, self.stderr, self.stdin):
            try:
                if file is not None:
                    file.close()
            except BrokenPipeError:
                continue
        self.wait()

    def __reduce__(self) -> NoReturn:
        raise TypeError("a SandboxProcess can be neither copied nor pickled")

    def __repr__(self) -> str:
        state = f"returncode={self._returncode}" if self._returncode is not None else "running"
        return f"<SandboxProcess {command_name(self.args)!r} pid={self.pid} {state}>"

    # ---- the state ----

    def _look(self) -> int:
        """Takes over what is new. Returns the state."""
        with self._lock:
            status = self._handle.look()
            self.pid = self.pid or status.pid
            if status.terminal != -1:
                self._terminal = status.terminal
            if status.state == lib.SP_PROCESS_ENDED and self._returncode is None:
                self._timed_out, self._oom_killed = bool(status.timed_out), bool(status.oom_killed)
                self._returncode = -status.signal if status.signal else status.exit_code
            return int(status.state)

    def _await_start(self) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while self._look() < lib.SP_PROCESS_RUNNING:
            left = deadline - time.monotonic()
            if left < 0:
                raise SandboxError(f"{command_name(self.args)!r} was not started within {_START_SECONDS:g} s")
            self._wait_for_descriptor(left)

    def _await_news(self, deadline: float) -> bool:
        """Waits for the end. False: the deadline has passed before."""
        while self.poll() is None:
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            self._wait_for_descriptor(left)
        return True

    def _wait_for_descriptor(self, seconds: float) -> None:
        fd = self._handle.fileno()
        if fd != -1:
            ready = select.poll()
            ready.register(fd, select.POLLIN)
            ready.poll(min(seconds * 1000 + 1, _SLICE_MS))

    # ---- communicate ----

    def _new_exchange(self, data: Buffer | str | None) -> Exchange:
        encoded = encoded_input(data, has_stdin=self.stdin is not None, coding=self._coding)
        return Exchange(self.stdin, [file for file in (self.stdout, self.stderr) if file is not None], encoded)

    def _all_of(self, file: IO[Any] | None) -> bytes | str | None:
        """What was not read of this output before, which is closed then."""
        assert self._exchange is not None
        if file is None:
            return None
        if file.closed:
            return b"" if self._coding is None else ""
        with file:
            return with_rest(file, self._exchange.taken(file) or b"")  # type: ignore[no-any-return]


def start_process(
    held: Held,
    lease: int,
    program: Program,
    streams: tuple[Stream, Stream, Stream],
    defaults: CommandDefaults,
    kind: FileKind,
) -> SandboxProcess:
    """Starts a process in the lease, and waits until it has executed its program.

    Raises what `PooledSandbox.popen` raises.
    """
    if program.terminal and streams != (None, None, None):
        raise ValueError("pty=True is not allowed with stdin, stdout or stderr: all three are the terminal")
    opened = Streams(*streams)
    try:
        prepare_lease(held.pool, lease)
        handle = ProcessHandle(held, lease, program, (opened.fds, opened.own_pipes), defaults)
        opened.close_far()
        return SandboxProcess(handle, program.cmd, opened, kind)
    finally:
        opened.close()
