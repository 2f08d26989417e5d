"""`AsyncCodeSession`: several pieces of code in one interpreter, for the tasks of an event loop."""

from __future__ import annotations

from collections.abc import Awaitable
from contextvars import ContextVar
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn

from pysandpool._async.current import current
from pysandpool._async.done import DONE
from pysandpool._async.queue import Queue
from pysandpool._async.run import Takers, prepare_lease
from pysandpool._code.branch import Branching
from pysandpool._code.cell import Cell, CellOrder
from pysandpool._code.place import CodePlace
from pysandpool._code.process import CLOSE_SECONDS, CodeProcess, start_process
from pysandpool._code.state import SessionState, copies_wanted
from pysandpool._errors import SandboxError
from pysandpool._execute.encode import Environ, Word

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack

    from pysandpool._code.options import CellOptions
    from pysandpool._code.result import CodeResult

_taking: ContextVar[tuple[object, ...]] = ContextVar("pysandpool_taking_cells", default=())
"""The sessions with a cell whose output this task, or one that started it, was taking."""


class AsyncCodeSession:
    """A `CodeSession` whose calls are awaited. `AsyncPooledSandbox.session()` returns it.

    Leaving its `async with` block or `close()` ends it. Calls of several tasks run one after the other.
    """

    __slots__ = ("__weakref__", "_queue", "_state", "_taken")

    def __init__(self, process: CodeProcess, cells: int = 0) -> None:
        self._state = SessionState(process, cells)
        self._queue = Queue()
        self._taken = False

    @property
    def pid(self) -> int:
        """The pid of its process as the host sees it."""
        return self._state.process.pid

    @property
    def ended(self) -> bool:
        """Whether no further cell can run, see `CodeSession.ended`."""
        return self._state.ended

    async def run(self, code: str, **options: Unpack[CellOptions]) -> CodeResult:
        """Runs one cell. Arguments, results and errors are those of `CodeSession.run`.

        `on_stdout` and `on_stderr` may be async functions as well, which are awaited. A call that is cancelled while
        its cell runs ends the session, because half of a cell has changed its state.
        """
        backend = current()
        self._refuse_nested()
        async with self._queue.turn(backend):
            process = self._state.require()
            takers, given = Takers(), dict(options)
            for name in ("on_stdout", "on_stderr"):
                if given.get(name) is not None:
                    given[name] = takers.collecting(given[name])  # type: ignore[arg-type]
            order = CellOrder(process, self._state.next_number(), code, **given)  # type: ignore[arg-type]
            cell = Cell(process, order)
            try:
                while not cell.over:
                    await backend.drive(cell.step, steady=True)
                    await self._hand_over(cell, takers)
                result = self._state.result_of(cell)
            except BaseException:
                self._state.abandon()
                raise
            finally:
                cell.close()
        return result.check() if order.check else result

    async def branch(self, n: int = 1) -> list[AsyncCodeSession]:
        """Makes `n` copies of the interpreter as it is now, see `CodeSession.branch`.

        A call that is cancelled leaves no copy, and ends this session, which may be making one.
        """
        backend, wanted = current(), copies_wanted(n)
        self._refuse_nested()
        async with self._queue.turn(backend):
            branching = Branching(self._state.require(), wanted)
            try:
                await backend.drive(branching.step, steady=True)
                return [AsyncCodeSession(process, self._state.cells) for process in self._state.copies_of(branching)]
            except BaseException:
                self._state.leave(branching)
                raise
            finally:
                branching.close()

    def kill(self) -> Awaitable[None]:
        """Kills the process of the session at once. It never waits, and what it returns need not be awaited."""
        self._state.kill()
        return DONE

    async def close(self) -> None:
        """Ends the session, see `CodeSession.close`."""
        backend = current()
        async with self._queue.turn(backend):
            try:
                if not self._state.ended:
                    self._state.process.hang_up()
                    await backend.drive(self._state.process.ending(CLOSE_SECONDS), steady=True)
            finally:
                self._state.end()

    async def __aenter__(self) -> Self:
        self._state.require()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Closes the session; after an exception or a cancellation it is killed, and not waited for."""
        if kind is None:
            await self.close()
            return
        self.kill()
        if self._queue.is_idle:  # else the call that runs sees the end of the process, and closes the descriptors
            self._state.end()

    def __reduce__(self) -> NoReturn:
        raise TypeError("an AsyncCodeSession can be neither copied nor pickled: branch() copies it in the same sandbox")

    def __repr__(self) -> str:
        return f"<AsyncCodeSession pid={self.pid} {'ended' if self.ended else 'running'}>"

    def _refuse_nested(self) -> None:
        """A function that takes output of a cell of this session would wait for itself."""
        if self._taken and self in _taking.get():
            raise SandboxError("a function that takes output of a cell cannot use the session of that cell")

    async def _hand_over(self, cell: Cell, takers: Takers) -> None:
        before: Any = _taking.get()
        _taking.set((*before, self))
        self._taken = True
        try:
            cell.hand_over()
            await takers.settle()
        finally:
            self._taken = False
            _taking.set(before)


async def open_session(place: CodePlace, env: Environ | None, cwd: Word | None) -> AsyncCodeSession:
    """`_code.session.open_session` without a thread."""
    backend = current()
    await prepare_lease(backend, place.pool, place.handle)
    process = start_process(place, env, cwd)
    try:
        await backend.drive(process.starting(), steady=False)
    except BaseException:
        process.close()
        raise
    return AsyncCodeSession(process)
