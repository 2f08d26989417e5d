"""`SandboxExecutor`: commands as futures."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Literal, overload

from pysandpool._execute.encode import Words
from pysandpool._execute.result import SandboxResult
from pysandpool._pool.pool import SandboxPool

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from pysandpool._execute.options import BytesRunOptions, EitherRunOptions, TextRunOptions


class SandboxExecutor(Executor):
    """Runs commands in the sandboxes of a pool, several at a time, and returns a future for each.

    It is a `concurrent.futures.Executor` of commands in place of functions: each command gets a sandbox of its own, see
    `SandboxPool.run`. What that raises, the future raises. A future that waits can be cancelled; a command that runs
    ends by itself or by its timeout. Leaving the `with` block waits for all commands. The pool stays open.

    Args:
        pool: the pool.
        max_workers: the largest number of commands at a time; each has a thread. By default it is `max_in_use` of the
            pool, or min(32, processors + 4) if the pool has no such bound.
        max_queued: the largest number of commands that wait for a thread. While there are as many, `submit` waits, so
            that a loop over many commands holds few of them in memory. By default it is `max_workers`.

    Raises:
        TypeError, ValueError: an argument has a wrong type or is below its range.
    """

    def __init__(self, pool: SandboxPool, max_workers: int | None = None, *, max_queued: int | None = None) -> None:
        if not isinstance(pool, SandboxPool):
            raise TypeError(f"pool must be a SandboxPool, not {type(pool).__name__}")
        if max_workers is None:
            max_workers = pool.pool_config.max_in_use or min(32, (os.cpu_count() or 1) + 4)
        if max_queued is not None and max_queued < 0:
            raise ValueError(f"max_queued = {max_queued!r} is not allowed; expected: an int >= 0")
        self._pool = pool
        self._places = _Places(max_workers + (max_workers if max_queued is None else max_queued))
        self._threads = ThreadPoolExecutor(max_workers, "sandbox", self._places.enter_thread)

    @overload  # type: ignore[override]  # a command, and not a function
    def submit(
        self, cmd: Words, /, *, text: Literal[False] = ..., **options: Unpack[BytesRunOptions]
    ) -> Future[SandboxResult]: ...
    @overload
    def submit(
        self, cmd: Words, /, *, text: Literal[True], **options: Unpack[TextRunOptions]
    ) -> Future[SandboxResult[str]]: ...
    @overload
    def submit(
        self, cmd: Words, /, *, text: bool = ..., **options: Unpack[EitherRunOptions]
    ) -> Future[SandboxResult[Any]]: ...

    def submit(self, cmd: Words, /, **options: Any) -> Future[SandboxResult[Any]]:
        """Queues a command. Waits while `max_queued` commands are queued, unless it is called by a thread of this
        executor, as a callback of a future is.

        Keyword arguments are those of `SandboxPool.run`.

        Raises:
            RuntimeError: the executor was shut down, before or during the call.
            PoolStateError: the pool is closed, or belongs to the parent process.
        """
        self._pool.idle_len()  # raises
        run: Callable[..., SandboxResult[Any]] = self._pool.run
        self._places.take()
        try:
            future = self._threads.submit(run, cmd, **options)
        except BaseException:
            self._places.leave()
            raise
        future.add_done_callback(self._places.leave)
        return future

    @overload  # type: ignore[override]
    def map(
        self, cmds: Iterable[Words], /, *, text: Literal[False] = ..., **options: Unpack[BytesRunOptions]
    ) -> Iterator[SandboxResult]: ...
    @overload
    def map(
        self, cmds: Iterable[Words], /, *, text: Literal[True], **options: Unpack[TextRunOptions]
    ) -> Iterator[SandboxResult[str]]: ...
    @overload
    def map(
        self, cmds: Iterable[Words], /, *, text: bool = ..., **options: Unpack[EitherRunOptions]
    ) -> Iterator[SandboxResult[Any]]: ...

    def map(self, cmds: Iterable[Words], /, **options: Any) -> Iterator[SandboxResult[Any]]:
        """The results of many commands, in their order.

        `cmds` is read as the results are taken, a few commands ahead, so that it may be endless. An exception of a
        command is raised where its result would be; the iteration ends with it, and the commands that wait are
        cancelled. Keyword arguments are those of `SandboxPool.run`, for each command.
        """
        commands = iter(cmds)
        futures: deque[Future[SandboxResult[Any]]] = deque()
        self._submit_next(commands, futures, options)
        return self._results(commands, futures, options)

    def _submit_next(self, commands: Iterator[Words], futures: deque[Any], options: dict[str, Any]) -> None:
        for cmd in commands:
            futures.append(self.submit(cmd, **options))
            if len(futures) >= self._places.count:
                break

    def _results(
        self, commands: Iterator[Words], futures: deque[Future[SandboxResult[Any]]], options: dict[str, Any]
    ) -> Iterator[SandboxResult[Any]]:
        try:
            while futures:
                result = futures.popleft().result()
                self._submit_next(commands, futures, options)
                yield result
        finally:
            for future in futures:
                future.cancel()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Accepts no more commands. Calls of `submit` that wait raise RuntimeError.

        Args:
            wait: whether to wait for all commands.
            cancel_futures: whether to cancel the commands that wait for a thread.
        """
        self._places.close()
        self._threads.shutdown(wait=wait, cancel_futures=cancel_futures)


class _Places:
    """The places for commands that run or are queued."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._taken = 0
        self._closed = False
        self._changed = threading.Condition(threading.RLock())
        self._of_thread = threading.local()

    def enter_thread(self) -> None:
        """The calling thread runs commands: if it waited for a place, nobody might be left to free one."""
        self._of_thread.runs_commands = True

    def take(self) -> None:
        """Waits for a place, and takes it. Raises RuntimeError if they are closed."""
        waits = not hasattr(self._of_thread, "runs_commands")
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._taken < self.count or not waits)
            if self._closed:
                raise RuntimeError("cannot submit commands after shutdown")
            self._taken += 1

    def leave(self, _: object = None) -> None:
        """Frees a place."""
        with self._changed:
            self._taken -= 1
            self._changed.notify()

    def close(self) -> None:
        """Nobody gets a place any more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
