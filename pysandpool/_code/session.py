"""`CodeSession`: several pieces of code in one interpreter, for threads."""

from __future__ import annotations

import select
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, NoReturn

from pysandpool._code.branch import Branching
from pysandpool._code.cell import Cell, CellOrder
from pysandpool._code.place import CodePlace
from pysandpool._code.process import CLOSE_SECONDS, CodeProcess, Step, start_process
from pysandpool._code.state import SessionState, copies_wanted
from pysandpool._errors import SandboxError
from pysandpool._execute.encode import Environ, Word
from pysandpool._execute.run import prepare_lease

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack

    from pysandpool._code.options import CellOptions
    from pysandpool._code.result import CodeResult

_SLICE = 0.25
"""Another thread may kill the process of a session, and close its descriptors: a waiting thread looks this often."""


class CodeSession:
    """One interpreter that runs several pieces of code, the *cells*, which share its state.

    `PooledSandbox.session()` returns it. Leaving its `with` block or `close()` ends it; at the latest it ends with its
    lease. Threads that use one session take turns.
    """

    __slots__ = ("__weakref__", "_lock", "_owner", "_state")

    def __init__(self, process: CodeProcess, cells: int = 0) -> None:
        self._state = SessionState(process, cells)
        self._lock = threading.Lock()
        self._owner: int | None = None

    @property
    def pid(self) -> int:
        """The pid of its process as the host sees it."""
        return self._state.process.pid

    @property
    def ended(self) -> bool:
        """Whether no further cell can run. The process may have ended without any call having noticed it yet."""
        return self._state.ended

    def run(self, code: str, **options: Unpack[CellOptions]) -> CodeResult:
        """Runs one cell, which finds what the cells before it have left.

        An exception of the code does not end the session. SystemExit, the end of the process by whatever cause, a
        timeout and the memory limit do: then the result shows how the process ended, and the next `run` raises
        `SessionEndedError`. If the session goes on after the cell, `exit_code` and `signal` of the result are None.

        Args:
            code: Python source, at most 4 MiB in UTF-8.
            input: a str or bytes-like object for standard input, for this cell alone. By default it is /dev/null.
            timeout: seconds or a timedelta; `math.inf` means no limit. By default `SandboxConfig.timeout_secs`.
            on_stdout, on_stderr: functions that are called with the next text as soon as it comes. They must not use
                the session. What one of them raises ends the session, and passes through.
            max_output_bytes: in place of that of the configuration, for each output and for what the code reports.
            check: True calls `check()` of the result.

        Raises:
            CodeFailedError: with `check=True`, unless `ok` of the result is true. An exception alone does not end the
                session.
            SessionEndedError: the session has ended before this call, or was closed or killed meanwhile.
            SandboxReleasedError, SandboxLostError, PoolStateError: as for `PooledSandbox.execute`.
            TypeError, ValueError: an argument has a wrong type or value. Nothing ran, and the session goes on.
        """
        with self._turn():
            process = self._state.require()
            order = CellOrder(process, self._state.next_number(), code, **options)
            cell = Cell(process, order)
            try:
                while not cell.over:
                    _drive(cell.step)
                    cell.hand_over()
                result = self._state.result_of(cell)
            except BaseException:
                self._state.abandon()
                raise
            finally:
                cell.close()
        return result.check() if order.check else result

    def branch(self, n: int = 1) -> list[CodeSession]:
        """Makes `n` copies of the interpreter as it is now: sessions that go on from this state, independently.

        It is a fork of the process. Each copy has the variables and modules of this session, and outputs of its own. It
        ends by its own timeout, `kill()` or `close()`, and at the latest with the lease. Threads of the code are not
        copied. `random`, `numpy.random` and what `after_fork` renews differ in each. **Files are not copied**:
        all sessions of a lease share its scratch, its memory limit and its processes.

        Args:
            n: how many, 1 to 64. With other sessions and processes of `popen`, a lease can have 64.

        Raises:
            SandboxError: the copies could not be made, for example EAGAIN with too many processes. None is left, and
                this session goes on, unless it gave no proper answer.
            SessionEndedError, SandboxReleasedError, SandboxLostError, PoolStateError: as for `run`.
            TypeError, ValueError: `n` is no int, or not in its range.
        """
        wanted = copies_wanted(n)
        with self._turn():
            branching = Branching(self._state.require(), wanted)
            try:
                _drive(branching.step)
                return [CodeSession(process, self._state.cells) for process in self._state.copies_of(branching)]
            except BaseException:
                self._state.leave(branching)
                raise
            finally:
                branching.close()

    def kill(self) -> None:
        """Kills the process of the session at once, also while a cell runs in another thread. It never waits."""
        self._state.kill()

    def close(self) -> None:
        """Ends the session: the interpreter ends as after the last line of a program; if that takes more than a second,
        it is killed. A second call changes nothing. A cell that runs in another thread is waited for."""
        with self._turn():
            try:
                if not self._state.ended:
                    self._state.process.hang_up()
                    _drive(self._state.process.ending(CLOSE_SECONDS))
            finally:
                self._state.end()

    def __enter__(self) -> Self:
        self._state.require()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Closes the session; after an exception it is killed."""
        if kind is not None:
            self.kill()
        self.close()

    def __reduce__(self) -> NoReturn:
        raise TypeError("a CodeSession can be neither copied nor pickled: branch() makes copies in the same sandbox")

    def __repr__(self) -> str:
        return f"<CodeSession pid={self.pid} {'ended' if self.ended else 'running'}>"

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Waits until no other thread uses the session."""
        me = threading.get_ident()
        if self._owner == me:
            raise SandboxError("a function that takes output of a cell cannot use the session of that cell")
        with self._lock:
            self._owner = me
            try:
                yield
            finally:
                self._owner = None


def open_session(place: CodePlace, env: Environ | None, cwd: Word | None) -> CodeSession:
    """Starts a session, and waits until its interpreter runs. Raises what `PooledSandbox.session` raises."""
    prepare_lease(place.pool, place.handle)
    process = start_process(place, env, cwd)
    try:
        _drive(process.starting())
    except BaseException:
        process.close()
        raise
    return CodeSession(process)


def _drive(step: Step) -> None:
    """Takes the steps, and waits between them."""
    look = step()
    while look is not None:
        fd, seconds = look
        ready = select.poll()
        if fd != -1:
            ready.register(fd, select.POLLIN)
        ready.poll(min(seconds, _SLICE) * 1000 + 1)
        look = step()
