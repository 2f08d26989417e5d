"""What a session is at the moment, for threads and for event loops."""

from __future__ import annotations

import operator
import signal

from pysandpool._code.branch import MAX_COPIES, Branching
from pysandpool._code.cell import Cell
from pysandpool._code.process import CodeProcess
from pysandpool._code.result import CodeResult
from pysandpool._errors import SessionEndedError


class SessionState:
    """The process of a session, and the number of its cells. Those of a branch count on from the cells of its origin,
    whose functions have their file names."""

    __slots__ = ("_why", "cells", "ended", "process")

    def __init__(self, process: CodeProcess, cells: int) -> None:
        self.process = process
        self.ended = False
        self.cells = cells
        self._why = "this session was closed"

    def next_number(self) -> int:
        """The number of the next cell."""
        self.cells += 1
        return self.cells

    def require(self) -> CodeProcess:
        """The process, if a cell can run in it. Raises `SessionEndedError`, or what has ended the lease."""
        # First, because the sandbox of a lease that was released may live for another moment.
        self.process.explain_end()
        if not self.ended:
            self.process.look()
            if not self.process.ended:
                return self.process
            self._note_end("the process of this session has ended")
            self.end()
        raise SessionEndedError(self._why, self.process.exit_code, self.process.signal)

    def result_of(self, cell: Cell) -> CodeResult:
        """The result of a cell that is over. Raises `SessionEndedError` if a call has ended the session meanwhile, or
        what has ended the lease."""
        result = cell.result()
        process = self.process
        if not process.ended:
            return result
        was_closed = self.ended
        self._note_end(f"{_ender(result)} has ended this session")
        self.end()
        if result.signal == signal.SIGKILL and not (result.timed_out or result.oom_killed):
            process.explain_end()
        if was_closed:
            raise SessionEndedError(self._why, process.exit_code, process.signal)
        return result

    def copies_of(self, branching: Branching) -> list[CodeProcess]:
        """The copies. Raises why there are none, or what has ended the session or the lease meanwhile."""
        process = self.process
        if branching.problem is not None:
            process.look()  # what has ended a copy may have ended the session, too
            if process.ended and process.signal == signal.SIGKILL:
                process.explain_end()
            if process.ended:
                self._note_end("the process of this session ended while it was copied")
                self.end()
        if self.ended:
            raise SessionEndedError(self._why, process.exit_code, process.signal)
        return branching.take()

    def abandon(self) -> None:
        """An exception ends the call that runs a cell: nobody would read what the cell still does."""
        self._note_end("a call that was interrupted has ended this session")
        self.end()

    def leave(self, branching: Branching) -> None:
        """An exception ends the call that makes copies: the session can go on only if it has answered for all."""
        if branching.must_end or branching.is_under_way:
            self.end()

    def kill(self) -> None:
        """Ends the session by SIGKILL. Its descriptors stay open for a call that waits for them."""
        if not self.ended:
            self._why = "this session was killed"
            self.ended = True
            self.process.kill()

    def end(self) -> None:
        """No further cell can run. Closes all that the session holds, and kills the process if it lives."""
        self.ended = True
        self.process.close()

    def _note_end(self, why: str) -> None:
        if not self.ended:
            self._why = why


def _ender(result: CodeResult) -> str:
    return "a timeout" if result.timed_out else "the memory limit" if result.oom_killed else "a cell"


def copies_wanted(n: int) -> int:
    """The argument of `branch`. Raises TypeError or ValueError if it is none."""
    wanted = operator.index(n)
    if not 1 <= wanted <= MAX_COPIES:
        raise ValueError(f"n = {n!r} is not allowed; expected: an int, 1 ... {MAX_COPIES}")
    return wanted
