"""What the library logged, for tests to look at."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from waiting import wait_until

from pysandpool import SandboxPool


class Records(logging.Handler):
    """Keeps the records, and calls `then` for each."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[Any] = []
        self.then: Callable[[logging.LogRecord], None] = lambda _: None

    def emit(self, record: logging.LogRecord) -> None:
        self.found.append(record)
        self.then(record)

    def of(self, event: str, pool: SandboxPool | None = None) -> list[Any]:
        """Those of one event, and only of one pool if it is given."""
        return [
            record
            for record in self.found
            if record.event == event and (pool is None or f"pool={record.pool} " in repr(pool))
        ]

    def wait(self, event: str, count: int = 1) -> Any:
        """Until it happened so often, in however many lines; the first of them."""
        wait_until(lambda: sum(record.count for record in self.of(event)) >= count, f"{count} x {event}")
        return self.of(event)[0]
