"""The backend for asyncio and what replaces its loop, such as uvloop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

# To ask for a module that the application has imported; nothing of this package is reached by it.
from sys import modules as _loaded
from typing import TypeVar

from pysandpool._async.backend import Event, Step

_T = TypeVar("_T")


class AsyncioBackend:
    """An asyncio loop."""

    __slots__ = ("_loop",)

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    @property
    def loop(self) -> object:
        """The loop itself."""
        return self._loop

    async def drive(self, step: Step, *, steady: bool, write: bool = False) -> None:
        """Steps in callbacks of the loop, so that the task is not woken before there is something for it."""
        look = step()
        if look is None:
            await asyncio.sleep(0)
            return
        drive = _Drive(self._loop, step, steady, write)
        try:
            drive.wait_for(*look)
            await drive.over
        finally:
            drive.stop()

    async def in_thread(self, function: Callable[[], _T]) -> _T:
        """Uses the default executor of the loop."""
        future = self._loop.run_in_executor(None, function)
        cancelled: asyncio.CancelledError | None = None
        with self.shielded():
            while not future.done():
                try:
                    await asyncio.wait([future])
                except asyncio.CancelledError as error:
                    cancelled = cancelled or error
        if cancelled is not None:
            future.exception()  # else asyncio would log that nobody has seen it
            raise cancelled
        return future.result()

    def shielded(self) -> AbstractContextManager[object]:
        """anyio cancels a task again and again until it ends. Only anyio can hold that off."""
        anyio = _loaded.get("anyio")
        return nullcontext() if anyio is None else anyio.CancelScope(shield=True)

    def event(self) -> Event:
        """A new event of asyncio."""
        return asyncio.Event()


class _Drive:
    """Calls `step` whenever its descriptor can be read or its time has come; `over` is done when that has ended."""

    __slots__ = ("_add", "_due", "_fd", "_loop", "_remove", "_steady", "_step", "_timer", "over")

    def __init__(self, loop: asyncio.AbstractEventLoop, step: Step, steady: bool, write: bool) -> None:
        self._loop = loop
        self._add = loop.add_writer if write else loop.add_reader
        self._remove = loop.remove_writer if write else loop.remove_reader
        self._step = step
        self._steady = steady
        self._fd = -1
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0
        self.over: asyncio.Future[None] = loop.create_future()

    def wait_for(self, fd: int, seconds: float) -> None:
        """Sets what to wait for. A timer that is due earlier is kept: it only leads to one more step."""
        if fd != self._fd:
            self._forget()
            if fd >= 0:
                self._add(fd, self._ready)
                self._fd = fd
        due = self._loop.time() + seconds
        if self._timer is None or due < self._due:
            self._stop_timer()
            self._timer = self._loop.call_at(due, self._late)
            self._due = due

    def stop(self) -> None:
        """Waits no longer."""
        self._stop_timer()
        self._forget()

    def _late(self) -> None:
        self._timer = None
        self._ready()

    def _ready(self) -> None:
        if self.over.done():  # cancelled; the task has not run since
            return
        if not self._steady:
            self._forget()
        try:
            look = self._step()
        except Exception as error:  # noqa: BLE001 - it belongs to the task
            self.stop()
            self.over.set_exception(error)
            return
        if look is None:
            self.stop()
            self.over.set_result(None)
        else:
            self.wait_for(*look)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _forget(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            try:
                self._remove(fd)
            except RuntimeError:  # the loop is closed, and the task is being destroyed
                return
