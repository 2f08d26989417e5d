"""A command that the interpreter of a sandbox takes in place of an exec, and the channel over which it answers."""

from __future__ import annotations

from typing import Any

from pysandpool._execute.live import Tap, copy_of, no_descriptors


class ChannelCapture:
    """Makes a call one for the interpreter, and keeps what comes over its channel: a `Live`.

    Args:
        runs: who takes the code: SP_RUNS_*.
        tap: takes the outputs while the code runs; None: they are captured.
        most: the bytes of the channel to keep. The rest is read and dropped.
    """

    def __init__(self, runs: int, tap: Tap | None, most: int) -> None:
        self._runs = runs
        self._tap = tap
        self._most = most
        self.found = b""
        self.truncated = False

    def begin(self, call: Any) -> None:
        """Asks for the interpreter, and sets which streams are live."""
        call.request.runs = self._runs
        call.request.max_channel_bytes = self._most
        if self._tap is None:
            no_descriptors(call)
        else:
            self._tap.begin(call)

    def exchange(self, call: Any) -> None:
        """Hands output over. The channel is not live: C collects it."""
        if self._tap is not None:
            self._tap.exchange(call)

    def finish(self, call: Any) -> dict[str, Any]:
        """Takes the channel, and the last output."""
        result = call.result
        self.found = copy_of(result.channel, result.channel_len)
        self.truncated = result.channel_truncated != 0
        return {} if self._tap is None else self._tap.finish(call)
