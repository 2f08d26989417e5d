"""What the calls of this room need of an event loop. There is one for asyncio, and one for anyio."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Optional, Protocol, TypeVar

_T = TypeVar("_T")

Look = Optional[tuple[int, float]]
"""A descriptor to wait for until it can be read (-1: none), and the seconds to wait at most; None: wait no longer."""

Step = Callable[[], Look]
"""A turn of a C call that does not wait."""


class Event(Protocol):
    """`asyncio.Event` and `anyio.Event`."""

    def set(self) -> Any: ...
    def is_set(self) -> bool: ...
    async def wait(self) -> Any: ...


class Backend(Protocol):
    """An event loop that runs."""

    @property
    def loop(self) -> object:
        """An object that stands for this loop: two are the same object if, and only if, their loops are."""

    async def drive(self, step: Step, *, steady: bool, write: bool = False) -> None:
        """Calls `step` at once and then whenever what it returned has come, until it returns None.

        Other tasks run in any case, and a cancellation comes in, also if the first call returns None: a tenant that
        always writes faster than its output is read would stop the loop otherwise.

        `steady`: the descriptor is the same each time and stays open until the end; else a step may close it. `write`:
        waits until it can be written to.
        """

    async def in_thread(self, function: Callable[[], _T]) -> _T:
        """Calls `function` in another thread. A cancellation is raised when it has returned."""

    def shielded(self) -> AbstractContextManager[object]:
        """While this is entered, a cancellation that repeats itself does not disturb `drive`."""

    def event(self) -> Event:
        """A new event."""
