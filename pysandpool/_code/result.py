"""What `run_code` and the cells of a session return."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pysandpool._errors import CodeFailedError
from pysandpool._execute.result import SandboxResult
from pysandpool._execute.text import REPLACING, decode

if TYPE_CHECKING:
    from typing_extensions import Self


@dataclass(frozen=True)
class CodeError:
    """An exception that ended the code, in the words of the code's own process: see `CodeClaims`."""

    name: str
    """The name of its class, such as "ZeroDivisionError"."""
    value: str
    """Its `str()`."""
    traceback: str
    """What Python prints, with the source lines."""


@dataclass(frozen=True)
class CodeClaims:
    """What the process in which the code ran has reported about it.

    A tenant can report anything here: it can invent results, hide an error, or say that it is done and run on. Nothing
    of it says more than "the code of this tenant says so". What the host and the sandbox's init know by themselves are
    the other fields of a `CodeResult`.
    """

    text: str | None = None
    """The `repr()` of the value of the last expression; None if the code does not end with an expression, or if its
    value is None."""
    error: CodeError | None = None
    """The exception that ended the code; None if there was none, or if it was SystemExit."""
    results: tuple[Mapping[str, str | bytes], ...] = ()
    """For each thing that was shown, its representations by MIME type: the value of the last expression, if its class
    offers more than a repr, and the figures of matplotlib. "text/..." and the like are str, "image/png" is bytes."""
    complete: bool = False
    """Whether the report is complete: False if the code was killed, or if there was more than
    `max_output_bytes`."""
    text_truncated: bool = False
    """Whether `text` is only the start of the `repr()`, because there was more than `max_output_bytes`."""


@dataclass(frozen=True)
class CodeResult:
    """How a piece of code ended.

    `claimed`, and `text`, `error` and `results`, which are short for its fields, are what the code's own process
    reports. All other fields are known to the host or to the sandbox's init, whatever the code does.
    """

    stdout: str
    """Standard output, decoded as UTF-8, in which "\\r\\n" and "\\r" become "\\n". What is not UTF-8 is replaced by
    U+FFFD."""
    stderr: str
    """Standard error."""
    claimed: CodeClaims
    """What the code's own process has reported."""
    exit_code: int | None
    """The exit code of the process: 0 at the end of the code, 1 after an exception, or that of SystemExit. None if a
    signal killed it, and for a cell after which the session goes on."""
    signal: int | None
    """The signal that killed the process, else None."""
    timed_out: bool
    """Whether it was killed because it ran longer than `timeout`."""
    oom_killed: bool
    """Whether it was killed because the sandbox exceeded its memory limit."""
    elapsed: float
    """Seconds from the request to the end."""
    stdout_truncated: bool = False
    """Whether there was more than `max_output_bytes` of standard output."""
    stderr_truncated: bool = False
    """The same for standard error."""
    user_time: float = 0.0
    """Seconds of CPU time in user space, of the process and the children that it has waited for; of a session up to
    now, and 0 as long as it runs."""
    system_time: float = 0.0
    """Seconds of CPU time in the kernel."""
    max_rss_bytes: int = 0
    """Bytes of peak resident memory."""

    @property
    def text(self) -> str | None:
        """`claimed.text`: the `repr()` of the last expression."""
        return self.claimed.text

    @property
    def text_truncated(self) -> bool:
        """`claimed.text_truncated`: whether that is only its start."""
        return self.claimed.text_truncated

    @property
    def error(self) -> CodeError | None:
        """`claimed.error`: the exception that ended the code."""
        return self.claimed.error

    @property
    def results(self) -> tuple[Mapping[str, str | bytes], ...]:
        """`claimed.results`: what was shown."""
        return self.claimed.results

    @property
    def ok(self) -> bool:
        """Whether the process ended with exit code 0, or the session goes on; and the code has reported its end and no
        error; and no output was dropped."""
        known = not self.exit_code and self.signal is None and not (self.stdout_truncated or self.stderr_truncated)
        return known and self.claimed.complete and self.claimed.error is None

    def check(self) -> Self:
        """Returns this result if `ok` is true.

        Raises:
            CodeFailedError: it is not. Its `result` is this one.
        """
        if not self.ok:
            raise CodeFailedError(self)
        return self


def code_result(known: SandboxResult, claimed: CodeClaims) -> CodeResult:
    """The result of code from that of its process, whose outputs are bytes or text."""
    killed = known.signal is not None
    return CodeResult(
        stdout=decode(known.stdout, REPLACING, killed or known.stdout_truncated),
        stderr=decode(known.stderr, REPLACING, killed or known.stderr_truncated),
        claimed=claimed,
        exit_code=known.exit_code,
        signal=known.signal,
        timed_out=known.timed_out,
        oom_killed=known.oom_killed,
        elapsed=known.elapsed,
        stdout_truncated=known.stdout_truncated,
        stderr_truncated=known.stderr_truncated,
        user_time=known.user_time,
        system_time=known.system_time,
        max_rss_bytes=known.max_rss_bytes,
    )
