"""What a method returns that does its work at once, where the synchronous class has a method that returns None."""

from __future__ import annotations

from collections.abc import Awaitable, Generator
from typing import Any


class Done(Awaitable[None]):
    """It may be awaited, and need not be."""

    __slots__ = ()

    def __await__(self) -> Generator[Any, None, None]:
        return iter(())  # type: ignore[return-value]  # it never yields


DONE = Done()
