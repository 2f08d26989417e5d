"""What one call of `run_code` asks for, whether it waits on a thread or in an event loop."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from pysandpool._code.messages import MAX_CHANNEL_BYTES, claims_of
from pysandpool._code.place import CodePlace
from pysandpool._code.request import ChannelCapture
from pysandpool._code.result import CodeResult, code_result
from pysandpool._config.fields import Duration
from pysandpool._execute.encode import Environ, Word, Words
from pysandpool._execute.live import Taker, Tap
from pysandpool._execute.result import SandboxResult
from pysandpool._execute.run import CommandDefaults
from pysandpool._execute.text import ENCODING, REPLACING

if TYPE_CHECKING:
    from typing_extensions import Buffer

MAX_CODE_BYTES = 4 << 20


class CodeOrder(NamedTuple):
    """The arguments of `run_command`, and what becomes of its result."""

    cmd: Words
    options: tuple[str | Buffer | None, Environ | None, Word | None, Duration | None]
    defaults: CommandDefaults
    live: ChannelCapture
    check: bool

    def finish(self, found: SandboxResult) -> CodeResult:
        """The result of the call. Raises `CodeFailedError` if `check` asks for it."""
        result = code_result(found, claims_of(self.live.found, self.live.truncated))
        return result.check() if self.check else result


def code_order(  # noqa: PLR0913 - the arguments of PooledSandbox.run_code, which describes them
    place: CodePlace,
    code: str,
    *,
    input: str | Buffer | None = None,
    env: Environ | None = None,
    cwd: Word | None = None,
    timeout: Duration | None = None,
    on_stdout: Taker | None = None,
    on_stderr: Taker | None = None,
    max_output_bytes: float | None = None,
    check: bool = False,
) -> CodeOrder:
    """Checks the code and those arguments that the defaults depend on; the others are checked by `run_command`."""
    defaults = place.defaults
    if max_output_bytes is not None:
        defaults = defaults.keeping(max_output_bytes)
    most = channel_bytes(defaults)
    tap = None
    if on_stdout is not None or on_stderr is not None:
        tap = Tap(on_stdout, on_stderr, defaults.max_output_bytes, REPLACING)
    words = (b"run", encoded_code(code), f'{{"limit":{most:d}}}')
    capture = ChannelCapture(place.runs, tap, most)
    return CodeOrder(words, (encoded_text(input), env, cwd, timeout), defaults, capture, check)


def channel_bytes(defaults: CommandDefaults) -> int:
    """How many bytes of the channel are kept for one run or cell."""
    return min(defaults.max_output_bytes, MAX_CHANNEL_BYTES)


def encoded_code(code: Any) -> bytes:
    """The code as UTF-8. Raises TypeError or ValueError if it cannot be code."""
    if not isinstance(code, str):
        raise TypeError(f"code must be a str, not {type(code).__name__}")
    try:
        found = code.encode(ENCODING)
    except UnicodeEncodeError as error:
        raise ValueError(f"code is not allowed: it cannot be encoded as UTF-8: {error.reason}") from None
    if b"\0" in found:
        raise ValueError("code is not allowed: it contains a NUL")
    if len(found) > MAX_CODE_BYTES:
        raise ValueError(
            f"code of {len(found)} bytes is not allowed; expected: at most {MAX_CODE_BYTES}. "
            "Write the data into a file with write_file, or pass it as input"
        )
    return found


def encoded_text(data: str | Buffer | None) -> Buffer | None:
    """Input as bytes."""
    return data.encode(ENCODING) if isinstance(data, str) else data
