"""The channel: tells the host results, errors and ends, as one JSON object a line; hears the requests of a session."""

from __future__ import annotations

import _socket
import array
import json
import os
from typing import Any

_RESERVED = 256
"""Bytes that are kept for the last line, which ends the results of a request."""
_PIECE = 65536
_MAX_DESCRIPTORS = 8


class Channel:
    """Collects what is told, and writes all of it at once: each write would wake the host."""

    def __init__(self, fd: int, limit: int) -> None:
        self._fd = fd
        self._owner = os.getpid()
        self._lines: list[bytes] = []
        self._left = 0
        self._dropped = False
        self.begin(limit)

    def begin(self, limit: int) -> None:
        """The next request: the host takes at most `limit` bytes for it."""
        self._left = max(0, limit - _RESERVED)
        self._dropped = False
        self._lines = []

    def tell(self, message: dict[str, Any]) -> None:
        """Adds a line. One for which there is no room is dropped, and the last line says so."""
        line = _encoded(message)
        if len(line) > self._left:
            self._dropped = True
            return
        self._left -= len(line)
        self._lines.append(line)

    def end(self, **fields: Any) -> None:
        """Adds the last line, and writes all. A copy of the process that the code made by fork() writes nothing."""
        lines = [*self._lines, _encoded({"t": "done", "dropped": self._dropped, **fields})]
        self._lines = []
        if os.getpid() == self._owner:
            self._write(b"".join(lines))

    def _write(self, data: bytes) -> None:
        left = memoryview(data)
        try:
            while left:
                left = left[os.write(self._fd, left) :]
        except OSError:  # the code has closed the descriptor, or the host does not listen any more
            return


class Requests:
    """The requests that come over the channel of a session, each with its descriptors."""

    def __init__(self, fd: int) -> None:
        self._socket = _socket.socket(fileno=fd)
        self._read = b""
        self._descriptors: list[int] = []

    def next(self) -> tuple[dict[str, Any], list[int]] | None:
        """The next request. None: the host has closed its end."""
        while b"\n" not in self._read:
            if not self._receive():
                return None
        line, _, self._read = self._read.partition(b"\n")
        descriptors, self._descriptors = self._descriptors, []
        request: dict[str, Any] = json.loads(line)
        return request, descriptors

    def close(self) -> None:
        """Closes the descriptor."""
        self._socket.close()

    def _receive(self) -> bool:
        room = _socket.CMSG_SPACE(_MAX_DESCRIPTORS * 4)
        try:
            piece, controls, _, _ = self._socket.recvmsg(_PIECE, room, _socket.MSG_CMSG_CLOEXEC)
        except OSError:
            return False
        for level, kind, data in controls:
            if (level, kind) == (_socket.SOL_SOCKET, _socket.SCM_RIGHTS):
                found = array.array("i")
                found.frombytes(data[: len(data) - len(data) % found.itemsize])
                self._descriptors += found
        self._read += piece
        return bool(piece)


def _encoded(message: dict[str, Any]) -> bytes:
    return json.dumps(message, separators=(",", ":")).encode("ascii") + b"\n"
