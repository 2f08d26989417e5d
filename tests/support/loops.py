"""Event loops that a test runs on, and a cancellation at any point where a task waits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Generator
from typing import Any, TypeVar

import pytest

_T = TypeVar("_T")

Main = Callable[[], Coroutine[Any, Any, _T]]
LOOPS = ("asyncio", "uvloop", "trio")


def run_on(loop: str, main: Main[_T]) -> _T:
    """Runs `main` on a new loop of this kind."""
    if loop == "trio":
        import trio

        found: _T = trio.run(main)
        return found
    if loop == "uvloop":
        import uvloop

        return uvloop.run(main())
    return asyncio.run(main())


def each_loop(test: Callable[..., object], main: Main[None]) -> Callable[[str], None]:
    """The test for pytest, with the name of `test`: it runs `main` on a new loop of each kind."""

    @pytest.mark.parametrize("loop", LOOPS)
    def run(loop: str) -> None:
        run_on(loop, main)

    run.__name__ = test.__name__
    run.__doc__ = test.__doc__
    return run


class Interrupted(Coroutine[Any, Any, _T]):
    """A coroutine that is cancelled when it waits for the n-th time.

    `when`: "at once"; "soon", in a later step of the loop; or "late", when what it waits for has just come.
    """

    def __init__(self, inner: Coroutine[Any, Any, _T], nth: int, when: str) -> None:
        self._inner = inner
        self._left = nth
        self._when = when

    @property
    def reached(self) -> bool:
        """Whether it has waited that often."""
        return self._left < 0

    def send(self, value: Any) -> Any:
        return self._after(self._inner.send(value))

    def throw(self, *error: Any) -> Any:
        return self._after(self._inner.throw(*error))

    def close(self) -> None:
        self._inner.close()

    def __await__(self) -> Generator[Any, Any, _T]:
        raise NotImplementedError

    def _after(self, waited_for: Any) -> Any:
        self._left -= 1
        if self._left == -1:
            self._cancel(waited_for)
        return waited_for

    def _cancel(self, waited_for: Any) -> None:
        task = asyncio.current_task()
        assert task is not None
        if self._when == "late" and isinstance(waited_for, asyncio.Future):
            # Before the task itself is told: it finds both, the result and the cancellation.
            waited_for.add_done_callback(lambda _: task.cancel())
        elif self._when == "soon":
            asyncio.get_running_loop().call_soon(task.cancel)
        else:
            task.cancel()


async def cancelled_at(nth: int, when: str, main: Main[Any]) -> bool:
    """Runs `main` in a task that is cancelled when it waits for the n-th time. False: it waited less often."""
    coroutine = Interrupted(main(), nth, when)
    task = asyncio.get_running_loop().create_task(coroutine)
    try:
        await task
    except asyncio.CancelledError:
        assert coroutine.reached
    return coroutine.reached
