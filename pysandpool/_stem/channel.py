"""The channel: sends results, errors and ends to the host, one JSON object a line; receives requests of a session."""

from __future__ import annotations

import _socket
import array
import json
import os
from typing import Any

_RESERVED = 256
"""Bytes that are kept for the last line, which ends the results of a request."""
_END = b'{"t":"done","dropped":false}\n'
"""The last line of most requests. A copy that does not need the encoder of JSON writes to fewer pages."""
_PIECE = 65536
_MAX_DESCRIPTORS = 8


class Channel:
    """Collects the messages, and writes all of them at once: each write would wake the host."""

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

    def add(self, message: dict[str, Any], *shortened: str) -> None:
        """Adds a line. If there is no room for it, its fields of these names are shortened, and it says so; else it is
        dropped. The last line says that something is missing."""
        line = b"" if any(len(message[name]) > self._left for name in shortened) else _encoded(message)
        if not line or len(line) > self._left:
            self._dropped = True
            line = self._shortened(message, shortened)
            if len(line) > self._left:
                return
        self._left -= len(line)
        self._lines.append(line)

    def _shortened(self, message: dict[str, Any], names: tuple[str, ...]) -> bytes:
        """The line, which has room if the fields with these names can be cut. A later one has what the others leave."""
        found = {**message, **dict.fromkeys(names, "")}
        if names:
            found["cut"] = True
        room = self._left - len(_encoded(found))
        for at, name in enumerate(names):
            found[name] = _head(message[name], room // (len(names) - at))
            room -= _size(found[name])
        return _encoded(found)

    def end(self, **fields: Any) -> None:
        """Adds the last line, and writes all. A copy of the process that the code made by fork() writes nothing."""
        told_all = not (fields or self._dropped)
        last = _END if told_all else _encoded({"t": "done", "dropped": self._dropped, **fields})
        lines = [*self._lines, last]
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
                self._descriptors += [_above_streams(fd) for fd in found]
        self._read += piece
        return bool(piece)


def _above_streams(fd: int) -> int:
    """The same file with a number above 2: where the code has closed a standard stream, the kernel gives its number to
    the next file."""
    below = []
    while fd <= 2:
        below.append(fd)
        fd = os.dup(fd)
    for one in below:
        os.close(one)
    return fd


def _size(text: str) -> int:
    return len(json.dumps(text)) - 2


def _head(text: str, room: int) -> str:
    """As much of the text from its start as takes so many bytes in JSON."""
    text = text[: max(0, room)]
    while text and _size(text) > room:
        text = text[: min(len(text) - 1, len(text) * room // _size(text))]
    return text


def _encoded(message: dict[str, Any]) -> bytes:
    return json.dumps(message, separators=(",", ":")).encode("ascii") + b"\n"
