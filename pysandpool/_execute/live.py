"""Exchanges bytes with a command while it runs, and hands its output to functions as it comes."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Protocol

from pysandpool._execute.text import Coding, Decoder
from pysandpool._ffi import ffi, lib

Taker = Callable[[Any], object]
"""A function that takes the next bytes, or the next text, of an output."""


class Live(Protocol):
    """Exchanges bytes with one command. `call` is an `sp_call *`; csrc/sandpool.cdef describes the exchange."""

    def begin(self, call: Any) -> None:
        """Sets which streams are live. The command is not started yet."""

    def exchange(self, call: Any) -> None:
        """Takes output and brings input. It is also called when there is nothing to exchange."""

    def finish(self, call: Any) -> dict[str, Any]:
        """Takes the last output of the command, which has ended. Returns fields of the result."""


def no_descriptors(call: Any) -> None:
    """Sets that the call has to wait for no descriptor of this process."""
    call.readable = call.writable[0] = call.writable[1] = -1


def copy_of(data: Any, length: int) -> bytes:
    """A copy of bytes that C owns."""
    return ffi.unpack(data, length) if length else b""


class Tap:
    """Hands output to functions as it comes, and keeps the first `most` bytes of each stream for the result.

    A stream without a function is not live. With a `coding` the functions get text.
    """

    def __init__(
        self, on_stdout: Taker | None, on_stderr: Taker | None, most: int, coding: Coding | None = None
    ) -> None:
        self._out = None if on_stdout is None else _Tapped(on_stdout, most, coding)
        self._err = None if on_stderr is None else _Tapped(on_stderr, most, coding)

    def begin(self, call: Any) -> None:
        """Makes the streams live that have a function."""
        call.request.live = (lib.SP_LIVE_OUT if self._out else 0) | (lib.SP_LIVE_ERR if self._err else 0)
        no_descriptors(call)

    def exchange(self, call: Any) -> None:
        """Calls the functions. What one of them raises passes through."""
        result = call.result
        # Both are copied first: whatever the functions do, nothing is handed over twice.
        out, err = copy_of(result.out, result.out_len), copy_of(result.err, result.err_len)
        call.taken = call.request.live
        self._take(out, err)

    def finish(self, call: Any) -> dict[str, Any]:
        """Calls the functions for the last time. Returns what was kept of the live streams."""
        result = call.result
        self._take(
            copy_of(result.out, result.out_len) if self._out else b"",
            copy_of(result.err, result.err_len) if self._err else b"",
        )
        for stream in (self._out, self._err):
            if stream is not None:
                stream.end(cut=result.signal != 0)
        return {**_kept("stdout", self._out), **_kept("stderr", self._err)}

    def _take(self, out: bytes, err: bytes) -> None:
        if out and self._out:
            self._out.take(out)
        if err and self._err:
            self._err.take(err)


class _Tapped:
    """One stream with a function."""

    __slots__ = ("_decoder", "_function", "_most", "kept", "truncated")

    def __init__(self, function: Taker, most: int, coding: Coding | None) -> None:
        if not callable(function):
            raise TypeError(f"on_stdout and on_stderr must be functions, not {type(function).__name__}")
        if inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__):
            raise TypeError("on_stdout and on_stderr may be async functions in AsyncSandboxPool and AsyncSandbox only")
        self._function = function
        self._most = most
        self._decoder = None if coding is None else Decoder(coding)
        self.kept = bytearray()
        self.truncated = False

    def take(self, piece: bytes) -> None:
        room = self._most - len(self.kept)
        self.kept += piece[:room]
        self.truncated = self.truncated or len(piece) > room
        if self._decoder is None:
            self._function(piece)
        else:
            self._hand_over(self._decoder.take(piece))

    def end(self, cut: bool) -> None:
        if self._decoder is not None:
            self._hand_over(self._decoder.end(cut))

    def _hand_over(self, text: str) -> None:
        if text:
            self._function(text)


def _kept(name: str, stream: _Tapped | None) -> dict[str, Any]:
    return {} if stream is None else {name: bytes(stream.kept), f"{name}_truncated": stream.truncated}
