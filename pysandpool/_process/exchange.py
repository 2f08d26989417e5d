"""`communicate()`: writes the input and reads the outputs of a process, whichever is ready."""

from __future__ import annotations

import errno
import os
import selectors
import time
from typing import IO, Any

from pysandpool._process.streams import has_reader

_PIECE = 65536
_SLICE = 3600.0


class Exchange:
    """What `communicate()` has still to write, and has read. It goes on where a call that timed out has stopped."""

    def __init__(self, stdin: IO[Any] | None, outputs: list[IO[Any]], data: bytes) -> None:
        self._stdin = stdin
        self._left = memoryview(data)
        self._read: dict[IO[Any], bytearray] = {file: bytearray() for file in outputs}
        self._open = set(outputs)

    def taken(self, file: IO[Any] | None) -> bytes | None:
        """What was read of this output."""
        return None if file is None else bytes(self._read[file])

    def run(self, deadline: float) -> bool:
        """Exchanges bytes until all outputs have ended. False: the deadline has passed before."""
        files = [file for file in (self._stdin, *self._open) if file is not None and not file.closed]
        # A tenant can fill and empty the pipes itself, so that no write or read is certain not to wait.
        for file in files:
            os.set_blocking(file.fileno(), False)
        try:
            return self._exchange(deadline)
        finally:
            for file in files:
                if not file.closed:
                    os.set_blocking(file.fileno(), True)

    def _exchange(self, deadline: float) -> bool:
        with selectors.DefaultSelector() as ready:
            self._begin(ready)
            while ready.get_map():
                left = deadline - time.monotonic()
                if left < 0:
                    return False
                self._turn(ready, min(left, _SLICE))
        return True

    def _turn(self, ready: selectors.BaseSelector, seconds: float) -> None:
        """Waits for so long at most, and exchanges what can be exchanged then."""
        for key, _ in ready.select(seconds):
            file: Any = key.fileobj
            if not (self._write(file) if key.events == selectors.EVENT_WRITE else self._read_some(file)):
                ready.unregister(file)
                self._end(file)

    def _begin(self, ready: selectors.BaseSelector) -> None:
        if self._stdin is not None and not self._stdin.closed:
            if not self._flush(self._stdin) or self._left:
                ready.register(self._stdin, selectors.EVENT_WRITE)
            else:
                self._end(self._stdin)
        for file in self._open:
            if file.closed:  # by the caller, who does not want it
                continue
            ready.register(file, selectors.EVENT_READ)

    def _end(self, file: IO[Any]) -> None:
        self._open.discard(file)
        if file is self._stdin:
            self._stdin = None
            try:
                file.close()
            except BrokenPipeError:
                return

    def _flush(self, file: IO[Any]) -> bool:
        """Writes what the caller has written before. False: it does not fit yet."""
        try:
            file.flush()
        except BlockingIOError:
            return False
        except BrokenPipeError:
            self._left = memoryview(b"")
        return True

    def _write(self, file: IO[Any]) -> bool:
        """Writes what fits. False: all is written, or nobody reads it any more, which is no error."""
        if not self._flush(file):
            return has_reader(file.fileno())
        try:
            self._left = self._left[os.write(file.fileno(), self._left[:_PIECE]) :]
        except BlockingIOError:
            return has_reader(file.fileno())
        except BrokenPipeError:
            return False
        except OSError as error:
            if error.errno == errno.EIO:  # a terminal that nobody has open any more
                return False
            raise
        return bool(self._left)

    def _read_some(self, file: IO[Any]) -> bool:
        try:
            piece = os.read(file.fileno(), _PIECE)
        except BlockingIOError:
            return True
        except OSError as error:
            if error.errno == errno.EIO:
                return False
            raise
        self._read[file] += piece
        return bool(piece)
