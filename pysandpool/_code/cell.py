"""One cell of a session: its request, its output, its messages and its end, in steps that do not wait."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pysandpool._code.messages import MessageReader
from pysandpool._code.order import channel_bytes, encoded_code, encoded_text
from pysandpool._code.process import CodeProcess, Look, lost
from pysandpool._code.result import CodeResult
from pysandpool._config.duration import to_nanoseconds
from pysandpool._config.fields import Duration
from pysandpool._execute.encode import encode_input
from pysandpool._execute.live import Taker
from pysandpool._execute.text import REPLACING, Decoder, decode

if TYPE_CHECKING:
    from typing_extensions import Buffer

_END_SECONDS = 2.0
"""From SIGKILL, or from the end that the code has reported, to the end of the process."""
_LONG = 3600.0


class CellOrder:
    """The arguments of one cell. Raises TypeError or ValueError before anything has begun."""

    def __init__(  # noqa: PLR0913 - the arguments of CodeSession.run, which describes them
        self,
        process: CodeProcess,
        number: int,
        code: str,
        *,
        input: str | Buffer | None = None,
        timeout: Duration | None = None,
        on_stdout: Taker | None = None,
        on_stderr: Taker | None = None,
        max_output_bytes: float | None = None,
        check: bool = False,
    ) -> None:
        defaults = process.place.defaults
        if max_output_bytes is not None:
            defaults = defaults.keeping(max_output_bytes)
        encoded_code(code)
        self.number = number
        self.check = check
        self.most = defaults.max_output_bytes
        self.channel_bytes = channel_bytes(defaults)
        self.takers = tuple(_function(name, one) for name, one in (("on_stdout", on_stdout), ("on_stderr", on_stderr)))
        data = encoded_text(input)
        if data is not None:
            encode_input(data)  # raises
        self.input = data
        limit = defaults.timeout_ns if timeout is None else to_nanoseconds(timeout)
        self.seconds = math.inf if limit < 0 else limit / 1e9
        message = {"t": "cell", "n": number, "code": code, "limit": self.channel_bytes}
        self.line = json.dumps(message, separators=(",", ":")).encode("ascii") + b"\n"


class Cell:
    """A cell that runs. `step` is called until it returns None; then `hand_over`; and so on until it is `over`."""

    def __init__(self, process: CodeProcess, order: CellOrder) -> None:
        self._process = process
        self._outputs = [_Output(taker, order.most) for taker in order.takers]
        self._reader = MessageReader(order.number)
        self._channel = bytearray()
        self._taken = 0
        self._room = order.channel_bytes
        self._left = memoryview(order.line)
        self._input = -1 if order.input is None else _file_of(order.input)
        self._began = time.monotonic()
        self._deadline = self._began + order.seconds
        self._timed_out = self._hung_up = False
        self._ending = False
        self.over = False

    def close(self) -> None:
        """Closes what the cell holds."""
        fd, self._input = self._input, -1
        if fd != -1:
            os.close(fd)

    def step(self) -> Look:
        """One turn. None: there is something to hand over, or the cell is over."""
        self._send()
        # In this order: what was sent before the end is there then, and what was printed before it was sent.
        self._process.look()
        self._read_channel()
        for n, output in enumerate(self._outputs):
            output.take(self._process.read_output(n))
        self._look_at_end()
        if self.over or any(output.has_news for output in self._outputs):
            return None
        left = self._look_at_clock()
        return self._process.fileno(), min(left, _LONG)

    def hand_over(self) -> None:
        """Calls the functions that take output. What one of them raises passes through."""
        for output in self._outputs:
            output.hand_over(ended=self.over)

    def result(self) -> CodeResult:
        """What came of it."""
        process = self._process
        out, err = self._outputs
        user, system, rss = process.usage
        return CodeResult(
            stdout=out.text(),
            stderr=err.text(),
            claimed=self._reader.claims(self._room < 0),
            exit_code=process.exit_code,
            signal=process.signal,
            timed_out=self._timed_out and process.signal is not None,
            oom_killed=process.oom_killed,
            elapsed=time.monotonic() - self._began,
            stdout_truncated=out.truncated,
            stderr_truncated=err.truncated,
            user_time=user,
            system_time=system,
            max_rss_bytes=rss,
        )

    def _send(self) -> None:
        if self._left:
            sent = self._process.send(self._left, [] if self._input == -1 else [self._input])
            self._left = self._left[sent:]
            if sent:
                self.close()
            self._process.wait_for_room(bool(self._left))

    def _read_channel(self) -> None:
        while not (self._hung_up or self._ending):
            found = self._process.read_channel()
            if found is None:
                self._hung_up = True
                return
            if not found:
                return
            self._room -= len(found)
            if self._room < 0:
                self._give_up()
                return
            self._channel += found
            self._take_lines()

    def _take_lines(self) -> None:
        """Each byte is searched once, however many pieces a line comes in."""
        while not self._ending:
            end = self._channel.find(b"\n", self._taken)
            if end == -1:
                self._taken = len(self._channel)
                return
            self._reader.take(bytes(self._channel[:end]))
            del self._channel[: end + 1]
            self._taken = 0
            if self._reader.is_malformed or (self._channel and self._reader.is_done):
                self._give_up()
            elif self._reader.is_done:
                return

    def _give_up(self) -> None:
        """What comes over the channel is not what a session sends: no message can be assigned to a cell any more."""
        self._ending = True
        self._process.kill()
        self._deadline = time.monotonic() + _END_SECONDS

    def _look_at_end(self) -> None:
        process, reader = self._process, self._reader
        if process.ended or (reader.is_done and not (reader.exits or self._ending)):
            self.over = True
        elif (reader.is_done or self._hung_up) and not self._ending:
            # The process has reported that it ends, or has closed its channel, without which it is of no use.
            self._ending = True
            if self._hung_up and not reader.is_done:
                process.kill()
            self._deadline = min(self._deadline, time.monotonic() + _END_SECONDS)

    def _look_at_clock(self) -> float:
        left = self._deadline - time.monotonic()
        if left > 0:
            return left
        if self._process.killed:
            raise lost()
        self._timed_out = not self._ending
        self._ending = True
        self._process.kill()
        self._deadline = time.monotonic() + _END_SECONDS
        return _END_SECONDS


class _Output:
    """One output of a cell: what is kept of it, and what its function has not got yet."""

    def __init__(self, taker: Taker | None, most: int) -> None:
        self._taker = taker
        self._most = most
        self._kept = bytearray()
        self._news: list[bytes] = []
        self._decoder = None if taker is None else Decoder(REPLACING)
        self.truncated = False

    @property
    def has_news(self) -> bool:
        return bool(self._news)

    def take(self, piece: bytes) -> None:
        if piece:
            room = self._most - len(self._kept)
            self._kept += piece[:room]
            self.truncated = self.truncated or len(piece) > room
            if self._taker is not None:
                self._news.append(piece)

    def hand_over(self, ended: bool) -> None:
        if self._taker is None or self._decoder is None:
            return
        news, self._news = self._news, []
        for text in (*map(self._decoder.take, news), self._decoder.end(cut=True) if ended else ""):
            if text:
                self._taker(text)

    def text(self) -> str:
        return decode(bytes(self._kept), REPLACING, cut=self.truncated)


def _function(name: str, value: Any) -> Callable[[Any], object] | None:
    if value is not None and not callable(value):
        raise TypeError(f"{name} must be a function, not {type(value).__name__}")
    function: Callable[[Any], object] | None = value
    return function


def _file_of(data: Any) -> int:
    """A file in memory with this content, to be read from the start."""
    fd = os.memfd_create("input")
    try:
        left = memoryview(data).cast("B")
        while left:
            left = left[os.write(fd, left) :]
        os.lseek(fd, 0, os.SEEK_SET)
    except BaseException:
        os.close(fd)
        raise
    return fd
