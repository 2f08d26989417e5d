"""Runs code that awaits outside of a function, as notebooks do: on an event loop that lives as long as the code's
namespace, so that a task of one cell can be awaited in a later one."""

from __future__ import annotations

import os
from types import CodeType
from typing import Any

COROUTINE = 0x80
"""Of `CodeType.co_flags`: calling the code makes a coroutine."""


class Loop:
    """One event loop, which is made when it is first needed: importing asyncio takes longer than most code runs."""

    def __init__(self) -> None:
        self._loop: Any = None
        self._owner = 0
        self._inherited: list[Any] = []

    def run(self, parts: list[CodeType], namespace: dict[str, Any]) -> Any:
        """Executes compiled code, part by part, and returns the value of the last one. If a part awaits, all run on the
        loop, until the last one ends; tasks that they have started wait for the next such code."""
        if not any(part.co_flags & COROUTINE for part in parts):
            value = None
            for part in parts:
                value = eval(part, namespace)
            return value
        import asyncio

        if self._owner != os.getpid():
            if self._loop is not None:
                # A branch shares the epoll instance of this loop with its origin: neither used nor closed here.
                self._inherited.append(self._loop)
            self._loop, self._owner = asyncio.new_event_loop(), os.getpid()
        return self._loop.run_until_complete(_awaited(parts, namespace))

    def end(self) -> None:
        """Cancels what is left on the loop, and closes it, as `asyncio.run` does."""
        loop = self._loop
        if loop is None or self._owner != os.getpid():
            return
        import asyncio

        self._loop = None
        try:
            tasks = asyncio.all_tasks(loop)
            for task in tasks:
                task.cancel()
            if tasks:
                loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.run_until_complete(loop.shutdown_default_executor())
        finally:
            loop.close()


async def _awaited(parts: list[CodeType], namespace: dict[str, Any]) -> Any:
    value = None
    for part in parts:
        value = eval(part, namespace)
        if part.co_flags & COROUTINE:
            value = await value
    return value
