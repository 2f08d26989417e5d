"""Reads what code sends over its channel. Every byte may come from a hostile tenant: see docs/protocol.md.

A line is one JSON object of a known kind, with known fields of known types and no other. The first line that is not
ends the reading. Nothing here raises because of what was read, and the memory that it takes is bounded by the bytes
that are given to it.
"""

from __future__ import annotations

import binascii
import json
import re
from collections.abc import Callable
from typing import Any

from pysandpool._code.result import CodeClaims, CodeError

MAX_CHANNEL_BYTES = 64 << 20
"""The largest number of bytes that is kept of one channel, also where `max_output_bytes` is unlimited."""
_MAX_MESSAGES = 1024
_MAX_MIMES = 64
_MAX_MIME_LENGTH = 128
_MAX_SKELETON = 1024
_MAX_QUOTES = 4 * _MAX_MIMES + 64
_MAX_DEPTH = 2
_MAX_DIGITS = 9
_END = b'{"t":"done","dropped":false}'
"""How most runs end. To parse it would take longer than all the rest of reading them."""
_READY = b"ready\n"
"""What init has not read: a runtime that was started after a command, and was asked at once, still sends it."""
_SURROGATE = re.compile("[\ud800-\udfff]")


class _MalformedError(Exception):
    """The line is not what it has to be."""


class MessageReader:
    """Collects the messages of one run, or of one cell of a session.

    Args:
        cell: the number of the cell that the last message has to name; None: of a run, which has no number.
    """

    def __init__(self, cell: int | None = None) -> None:
        self._cell = cell
        self._text: str | None = None
        self._text_truncated = False
        self._error: CodeError | None = None
        self._results: list[dict[str, str | bytes]] = []
        self._count = 0
        self._dropped = False
        self.is_done = False
        """the last message has come"""
        self.is_malformed = False
        """a line could not be read, and no further one will be"""
        self.exits = False
        """the last message has said that the process ends"""

    def take(self, line: bytes) -> None:
        """Reads one line, without its end."""
        if self.is_malformed:
            return
        try:
            self._take({"t": "done", "dropped": False} if line == _END else _object_of(line))
        except _MalformedError:
            self.is_malformed = True

    def claims(self, truncated: bool = False) -> CodeClaims:
        """The messages that came. `truncated`: not all of them have been read."""
        complete = self.is_done and not (self.is_malformed or truncated or self._dropped)
        return CodeClaims(self._text, self._error, tuple(self._results), complete, self._text_truncated)

    def _take(self, found: dict[str, Any]) -> None:
        self._count += 1
        if self.is_done or self._count > _MAX_MESSAGES:
            raise _MalformedError
        take = _TAKERS.get(_field(found, "t", str))
        if take is None:
            raise _MalformedError
        take(self, found)

    def _take_text(self, found: dict[str, Any]) -> None:
        self._text_truncated = _is_cut(found)
        _require(found, "repr")
        self._text = _text(_field(found, "repr", str))

    def _take_error(self, found: dict[str, Any]) -> None:
        _is_cut(found)
        _require(found, "name", "value", "traceback")
        self._error = CodeError(*(_text(_field(found, key, str)) for key in ("name", "value", "traceback")))

    def _take_result(self, found: dict[str, Any]) -> None:
        _require(found, "data", "bytes")
        result: dict[str, str | bytes] = {}
        for field, decode in (("data", _text), ("bytes", _blob)):
            for mime, value in _field(found, field, dict).items():
                if len(mime) > _MAX_MIME_LENGTH or not isinstance(value, str):
                    raise _MalformedError
                result[_text(mime)] = decode(value)
        if len(result) > _MAX_MIMES:
            raise _MalformedError
        self._results.append(result)

    def _take_done(self, found: dict[str, Any]) -> None:
        if self._cell is None:
            _require(found, "dropped")
        else:
            _require(found, "dropped", "n", "exits")
            if _field(found, "n", int) != self._cell:
                raise _MalformedError
            self.exits = _field(found, "exits", bool)
        self._dropped = _field(found, "dropped", bool)
        self.is_done = True


_TAKERS: dict[str, Callable[[MessageReader, dict[str, Any]], None]] = {
    "text": MessageReader._take_text,  # noqa: SLF001 - of this module
    "error": MessageReader._take_error,  # noqa: SLF001
    "result": MessageReader._take_result,  # noqa: SLF001
    "done": MessageReader._take_done,  # noqa: SLF001
}


def claims_of(channel: bytes, truncated: bool) -> CodeClaims:
    """The messages of the channel of a run. `truncated`: not all of it was kept."""
    reader = MessageReader()
    start = len(_READY) if channel.startswith(_READY) else 0
    while not reader.is_malformed and start < len(channel):
        end = channel.find(b"\n", start)
        if end == -1:
            truncated = True
            break
        reader.take(channel[start:end])
        start = end + 1
    return reader.claims(truncated)


def branch_errno(line: bytes) -> int | None:
    """The error number with which a session answers that it could not be copied; None for any other line."""
    try:
        found = _object_of(line)
        _require(found, "dropped", "errno")
        return int(_field(found, "errno", int)) if found["t"] == "done" else None
    except _MalformedError:
        return None


def _object_of(line: bytes) -> dict[str, Any]:
    """The object of one line.

    What is no string is looked at first: it has to be short and flat. So neither the depth of the object nor the size
    of a number can exhaust the stack or the time of the reader.
    """
    skeleton = _without_strings(line)
    if len(skeleton) > _MAX_SKELETON or b"[" in skeleton or _depth(skeleton) > _MAX_DEPTH:
        raise _MalformedError
    try:
        found = _PARSER.decode(line.decode("utf-8"))
    except (ValueError, RecursionError):
        raise _MalformedError from None
    if not isinstance(found, dict) or "t" not in found:
        raise _MalformedError
    return found


def _without_strings(line: bytes) -> bytes:
    """What is left of the line without its strings. Takes linear time: a regular expression would not."""
    # Of a row of backslashes, each pair is one character of a string. One that is left belongs to what follows.
    plain = line.replace(b"\\\\", b"").replace(b'\\"', b"")
    quotes = plain.count(b'"')
    if quotes % 2 or quotes > _MAX_QUOTES:
        raise _MalformedError
    return b"".join(plain.split(b'"')[::2])


def _depth(skeleton: bytes) -> int:
    depth = deepest = 0
    for byte in skeleton:
        depth += (byte == ord("{")) - (byte == ord("}"))
        deepest = max(deepest, depth)
    return deepest


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _MalformedError
    return found


def _small_integer(digits: str) -> int:
    if len(digits) > _MAX_DIGITS:
        raise _MalformedError
    return int(digits)


def _refuse(_: str) -> Any:
    raise _MalformedError


_PARSER = json.JSONDecoder(
    object_pairs_hook=_without_duplicates, parse_int=_small_integer, parse_float=_refuse, parse_constant=_refuse
)


def _require(found: dict[str, Any], *fields: str) -> None:
    """The message has these fields beside "t", and no other."""
    if found.keys() != {"t", *fields}:
        raise _MalformedError


def _is_cut(found: dict[str, Any]) -> bool:
    """Takes the field "cut" away, which a message may have."""
    is_cut = "cut" in found and _field(found, "cut", bool)
    found.pop("cut", None)
    return bool(is_cut)


def _field(found: dict[str, Any], name: str, kind: type) -> Any:
    value = found.get(name)
    if type(value) is not kind:
        raise _MalformedError
    return value


def _text(value: str) -> str:
    """The string, in which JSON may have hidden a half of a surrogate pair: such a string cannot be encoded."""
    return _SURROGATE.sub("\ufffd", value) if not value.isascii() else value


def _blob(value: str) -> bytes:
    try:
        encoded = value.encode("ascii")
        found = binascii.a2b_base64(encoded)
    except (UnicodeEncodeError, binascii.Error):
        raise _MalformedError from None
    # a2b_base64 passes over what is no base64.
    if binascii.b2a_base64(found, newline=False) != encoded:
        raise _MalformedError
    return found
