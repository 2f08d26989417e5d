"""The calls of several tasks on one object, which run one after the other."""

from __future__ import annotations

from collections import deque
from types import TracebackType

from pysandpool._async.backend import Backend, Event


class Turn:
    """`async with queue.turn(backend):` waits for the turns that came before."""

    __slots__ = ("_backend", "_queue")

    def __init__(self, queue: Queue, backend: Backend) -> None:
        self._queue = queue
        self._backend = backend

    async def __aenter__(self) -> None:
        await self._queue.begin(self._backend)

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._queue.end()


class Queue:
    """First come, first served."""

    __slots__ = ("_running", "_waiting")

    def __init__(self) -> None:
        self._running = False
        self._waiting: deque[Event] = deque()

    @property
    def is_idle(self) -> bool:
        """Whether no call runs or waits."""
        return not self._running

    def turn(self, backend: Backend) -> Turn:
        """The next turn."""
        return Turn(self, backend)

    async def begin(self, backend: Backend) -> None:
        """Waits for the turns that came before."""
        if not self._running:
            self._running = True
            return
        event = backend.event()
        self._waiting.append(event)
        try:
            await event.wait()
        except BaseException:
            if event.is_set():
                self.end()  # its turn came at the same time
            else:
                self._waiting.remove(event)
            raise

    def end(self) -> None:
        """The next one begins."""
        if self._waiting:
            self._waiting.popleft().set()
        else:
            self._running = False
