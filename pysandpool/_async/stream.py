"""The caller's ends of the streams of a process, in an event loop: what they have in common, and those to read from."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Any, NoReturn

from pysandpool._async.backend import Look
from pysandpool._async.current import current
from pysandpool._execute.text import Coding, Decoder

if TYPE_CHECKING:
    from typing_extensions import Self

PIECE = 65536
LONG = 3600.0


class Stream:
    """One descriptor, which this object owns."""

    __slots__ = ("_busy", "_coding", "_fd")

    def __init__(self, fd: int, coding: Coding | None) -> None:
        self._fd = fd
        self._coding = coding
        self._busy = False
        os.set_blocking(fd, False)

    @property
    def closed(self) -> bool:
        """Whether the stream was closed."""
        return self._fd == -1

    def fileno(self) -> int:
        """The descriptor, which does not block. Raises ValueError if the stream is closed."""
        if self._fd == -1:
            raise ValueError("I/O operation on closed file")
        return self._fd

    def close(self) -> None:
        """Closes the stream. Raises RuntimeError while a task waits for it."""
        if self._busy:
            raise RuntimeError("another task waits for this stream")
        fd, self._fd = self._fd, -1
        if fd != -1:
            os.close(fd)

    def __del__(self) -> None:
        if getattr(self, "_fd", -1) != -1:
            os.close(self._fd)

    def _require_idle(self) -> None:
        self.fileno()
        if self._busy:
            raise RuntimeError("another task waits for this stream")

    def _begin(self) -> None:
        self._require_idle()
        self._busy = True


class AsyncReader(Stream):
    """What a process writes, after `asyncio.StreamReader`: bytes, or str if it was started with `text=True`.

    `async for line in reader` yields lines as they come. One task at a time may wait for it.
    """

    __slots__ = ("_at", "_decoder", "_empty", "_ended", "_newline", "_pieces")

    def __init__(self, fd: int, coding: Coding | None) -> None:
        super().__init__(fd, coding)
        self._decoder = None if coding is None else Decoder(coding)
        self._empty: Any = b"" if coding is None else ""
        self._newline: Any = b"\n" if coding is None else "\n"
        # What was read of the descriptor, and of the first of these, from here up to `_at`. None of them is used up.
        self._pieces: list[Any] = []
        self._at = 0
        self._ended = False

    async def read(self, n: int = -1) -> Any:
        """Up to `n` bytes or characters as soon as there are any; all, to the end of the stream, if `n` is negative."""
        self._begin()
        try:
            while not self._ended and (n < 0 or (n and not self._pieces)):
                await self._read_more()
        finally:
            self._busy = False
        return self._take(n if n >= 0 else None)

    async def readline(self) -> Any:
        """The next line with its end; the rest, which may be empty, at the end of the stream."""
        return self._line_at_hand() or (await self._read_until(self._newline))[0]

    async def readuntil(self, separator: Any = None) -> Any:
        """What comes up to and with the separator: bytes, or a str; by default the end of the line.

        Raises:
            asyncio.IncompleteReadError: the stream ended before; `partial` has what there was.
        """
        wanted = self._newline if separator is None else separator
        if not isinstance(wanted, type(self._empty)) or not wanted:
            raise TypeError(
                f"separator = {wanted!r} is not allowed; expected: {type(self._empty).__name__} that is not empty"
            )
        found, is_whole = await self._read_until(wanted)
        if not is_whole:
            _incomplete(found, None)
        return found

    async def _read_until(self, separator: Any) -> tuple[Any, bool]:
        """The next part, and whether it ends with the separator."""
        self._begin()
        searched, tail = 0, self._empty
        self._cut()
        try:
            while True:
                for piece in self._pieces[searched:]:
                    tail = tail[len(tail) - len(separator) + 1 :] + piece if len(separator) > 1 else piece
                    if separator in tail:
                        end = self._join().find(separator) + len(separator)
                        return self._take(end), True
                searched = len(self._pieces)
                if self._ended:
                    return self._take(None), False
                await self._read_more()
        finally:
            self._busy = False

    async def readexactly(self, n: int) -> Any:
        """`n` bytes or characters.

        Raises:
            asyncio.IncompleteReadError: the stream ended before; `partial` has what there was.
        """
        self._begin()
        self._cut()
        try:
            while sum(map(len, self._pieces)) < n and not self._ended:
                await self._read_more()
        finally:
            self._busy = False
        found = self._take(n)
        if len(found) < n:
            _incomplete(found, n)
        return found

    def at_eof(self) -> bool:
        """Whether all was read, to the end of the stream."""
        return self._ended and not self._pieces

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        line = self._line_at_hand() or await self.readline()
        if not line:
            raise StopAsyncIteration
        return line

    def with_rest(self, rest: bytes) -> Any:
        """All that the caller has not read, where `communicate()` has read the `rest` of the descriptor."""
        self._ended = True
        piece: Any = rest if self._decoder is None else self._decoder.last(rest)
        return self._take(None) + piece

    def _line_at_hand(self) -> Any:
        """The next line if it is in the first piece, else None. A piece with thousands is not copied for each."""
        if self._busy or self._fd == -1 or not self._pieces:
            return None
        first, start = self._pieces[0], self._at
        self._at = end = first.find(self._newline, start) + 1
        if not end:
            self._at = start
            return None
        if end == len(first):
            del self._pieces[0]
            self._at = 0
        return first[start:end]

    def _cut(self) -> None:
        """Forgets what was read of the first piece."""
        if self._at:
            self._pieces[0] = self._pieces[0][self._at :]
            self._at = 0

    def _join(self) -> Any:
        self._cut()
        joined = self._empty.join(self._pieces)
        self._pieces = [joined] if joined else []
        return joined

    def _take(self, n: int | None) -> Any:
        joined = self._join()
        found = joined[:n]
        self._pieces = [joined[n:]] if n is not None and n < len(joined) else []
        return found

    async def _read_more(self) -> None:
        """Waits for the next piece, or the end. What has come when this is cancelled is kept."""

        def step() -> Look:
            try:
                found = os.read(self._fd, PIECE)
            except BlockingIOError:
                return self._fd, LONG
            except OSError as error:
                if error.errno != errno.EIO:
                    raise
                found = b""  # no process has the terminal open any more
            self._keep(found)
            return None

        await current().drive(step, steady=True)

    def _keep(self, found: bytes) -> None:
        self._ended = not found
        piece: Any = found
        if self._decoder is not None:
            piece = self._decoder.take(found) if found else self._decoder.end(cut=False)
        if piece:
            self._pieces.append(piece)


def _incomplete(found: Any, n: int | None) -> NoReturn:
    import asyncio

    raise asyncio.IncompleteReadError(found, n)
