"""What a process reads, in an event loop."""

from __future__ import annotations

import codecs
import errno
import os
from collections.abc import Coroutine, Generator, Iterable
from typing import TYPE_CHECKING, Any

from pysandpool._async.current import current
from pysandpool._async.stream import LONG, PIECE, Stream
from pysandpool._execute.text import Coding
from pysandpool._process.streams import has_reader

if TYPE_CHECKING:
    from typing_extensions import Buffer

_PIECES = 16
"""So many are written before other tasks run: a process may read as fast as this one writes."""


class AsyncWriter(Stream):
    """What a process reads, after `asyncio.StreamWriter`. One task at a time may wait for it."""

    __slots__ = ("_encoder", "_left")

    def __init__(self, fd: int, coding: Coding | None) -> None:
        super().__init__(fd, coding)
        self._encoder = None if coding is None else codecs.getincrementalencoder(coding.encoding)(coding.errors)
        self._left = bytearray()

    def write(self, data: Buffer | str) -> Draining:
        """Writes `data`: bytes, or a str if the process was started with `text=True`.

        What the process has no room for yet is kept, and written by `drain()`. `await writer.write(data)` is
        `writer.write(data)` and `await writer.drain()`, and returns when all is written.

        Raises:
            BrokenPipeError: nobody reads it any more.
            RuntimeError: another task waits for this stream.
        """
        if isinstance(data, str) != (self._encoder is not None):
            wanted = "bytes-like" if self._encoder is None else "str"
            raise TypeError(f"data must be {wanted}, not {type(data).__name__}")
        self._require_idle()
        encoded: Any = self._encoder.encode(data) if self._encoder and isinstance(data, str) else data
        self._left += memoryview(encoded).cast("B")
        self._write_some()
        return Draining(self)

    def writelines(self, lines: Iterable[Buffer | str]) -> Draining:
        """Writes one after the other, as `write` does."""
        for line in lines:
            self.write(line)
        return Draining(self)

    async def drain(self) -> None:
        """Waits until all that was passed to `write` is written. A cancelled call can be repeated.

        Raises:
            BrokenPipeError: nobody reads it any more.
        """
        if not self._left:  # perhaps not for the first time: who writes what is taken at once lets other tasks run
            await current().drive(lambda: None, steady=True)
            return
        self._begin()
        try:
            await current().drive(lambda: (self._fd, LONG) if self._write_some() else None, steady=True, write=True)
        finally:
            self._busy = False

    def flush(self) -> None:
        """Does nothing: `write` has written what there is room for."""

    def close(self) -> None:
        """Closes the stream, so that the process finds its end.

        Raises:
            RuntimeError: a task waits for it, or not all is written: `await drain()` before.
        """
        if self._left and not self.closed:
            raise RuntimeError(f"{len(self._left)} bytes are not written yet: await drain() before close()")
        super().close()

    def write_eof(self) -> None:
        """The same as `close()`."""
        self.close()

    def abort(self) -> None:
        """Closes the stream, and forgets what is not written."""
        self.take_left()
        super().close()

    def is_closing(self) -> bool:
        """Whether it is closed."""
        return self.closed

    async def wait_closed(self) -> None:
        """Does nothing: `close` has closed it."""

    def take_left(self) -> bytes:
        """What is not written, which is somebody else's from now on."""
        left, self._left = self._left, bytearray()
        return bytes(left)

    def _write_some(self) -> bool:
        """Writes what there is room for, or as much as one turn of the loop may. False: that was all."""
        try:
            for _ in range(_PIECES):
                if not self._left:
                    break
                del self._left[: os.write(self._fd, self._left[:PIECE])]
        except BlockingIOError:
            if not has_reader(self._fd):
                self._left.clear()
                raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE)) from None
            return True
        except OSError:
            self._left.clear()
            raise
        return bool(self._left)


class Draining(Coroutine[Any, Any, None]):
    """`drain()` for who awaits it; nothing is missing if nobody does. A coroutine, so that a task can be made of it."""

    __slots__ = ("_coroutine", "_writer")

    def __init__(self, writer: AsyncWriter) -> None:
        self._writer = writer
        self._coroutine: Coroutine[Any, Any, None] | None = None

    def _started(self) -> Coroutine[Any, Any, None]:
        if self._coroutine is None:
            self._coroutine = self._writer.drain()
        return self._coroutine

    def send(self, value: Any) -> Any:
        return self._started().send(value)

    def throw(self, *error: Any) -> Any:
        return self._started().throw(*error)

    def close(self) -> None:
        if self._coroutine is not None:
            self._coroutine.close()

    def __await__(self) -> Generator[Any, Any, None]:
        return self._started().__await__()
