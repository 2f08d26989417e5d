"""The backend for trio, through anyio, which the application has to install."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, TypeVar

from pysandpool._async.backend import Event, Step

_T = TypeVar("_T")


class AnyioBackend:
    """The loop in which anyio finds itself.

    Raises:
        RuntimeError: anyio is not installed.
    """

    __slots__ = ("_anyio",)

    def __init__(self) -> None:
        try:
            import anyio
            import anyio.lowlevel
        except ImportError as error:
            raise RuntimeError("pysandpool runs on trio through anyio, which is missing: pip install anyio") from error
        self._anyio: Any = anyio

    @property
    def loop(self) -> object:
        """An object that anyio keeps for this run of the loop."""
        variable = _loop_variable(self._anyio)
        found = variable.get(None)
        if found is None:
            found = object()
            variable.set(found)
        return found

    async def drive(self, step: Step, *, steady: bool, write: bool = False) -> None:
        """Steps in the task."""
        del steady  # anyio forgets a descriptor after each wait
        anyio = self._anyio
        ready = anyio.wait_writable if write else anyio.wait_readable
        look = step()
        if look is None:
            await anyio.lowlevel.checkpoint()
        while look is not None:
            fd, seconds = look
            with anyio.move_on_after(seconds):
                await (ready(fd) if fd >= 0 else anyio.sleep_forever())
            look = step()

    async def in_thread(self, function: Callable[[], _T]) -> _T:
        """Uses the threads of anyio, whose number is limited."""
        result: _T = await self._anyio.to_thread.run_sync(function)
        return result

    def shielded(self) -> AbstractContextManager[object]:
        """A scope that no cancellation enters."""
        scope: AbstractContextManager[object] = self._anyio.CancelScope(shield=True)
        return scope

    def event(self) -> Event:
        """A new event of anyio."""
        event: Event = self._anyio.Event()
        return event


_variables: dict[int, Any] = {}


def _loop_variable(anyio: Any) -> Any:
    """One variable for the whole process: anyio keeps a value of it for each run of a loop."""
    return _variables.setdefault(0, anyio.lowlevel.RunVar("pysandpool"))
