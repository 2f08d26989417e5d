"""`communicate()` in an event loop."""

from __future__ import annotations

import selectors
import time
from collections.abc import Sequence
from typing import Any, cast

from pysandpool._async.backend import Backend, Look
from pysandpool._async.stream import AsyncReader
from pysandpool._async.writer import AsyncWriter
from pysandpool._process.exchange import Exchange

_LONG = 3600.0


class AsyncExchange(Exchange):
    """The same in the loop: a selector is one descriptor for all streams."""

    def __init__(self, stdin: AsyncWriter | None, outputs: Sequence[AsyncReader], data: bytes) -> None:
        super().__init__(cast("Any", stdin), cast("Any", list(outputs)), data)

    def taken_of(self, file: AsyncReader | None) -> bytes | None:
        """What was read of this output."""
        return self.taken(cast("Any", file))

    async def run_on(self, backend: Backend, deadline: float) -> bool:
        """Exchanges bytes until all outputs have ended. False: the deadline has passed before."""
        with selectors.DefaultSelector() as ready:
            self._begin(ready)
            number: int = ready.fileno()  # type: ignore[attr-defined,unused-ignore] # of epoll and kqueue

            def step() -> Look:
                self._turn(ready, 0)
                left = deadline - time.monotonic()
                return (number, min(left, _LONG)) if ready.get_map() and left > 0 else None

            await backend.drive(step, steady=True)
            return not ready.get_map()
