"""`SandboxResult`: the outcome of one command."""

from __future__ import annotations

import dataclasses
import typing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic

from pysandpool._errors import CommandFailedError
from pysandpool._execute.text import REPLACING, Coding, decode

if TYPE_CHECKING:
    from typing_extensions import Self, TypeVar

    # By default, a SandboxResult is one of bytes.
    Output = TypeVar("Output", bytes, str, default=bytes)
else:
    Output = typing.TypeVar("Output", bytes, str)


@dataclass(frozen=True)
class SandboxResult(Generic[Output]):
    """The outcome of one `execute()`. A timeout is an outcome as well, and not an exception."""

    stdout: Output = field(repr=False)
    """The first `max_output_bytes` bytes that the command wrote to its standard output; with `text=True`, a str."""
    stderr: Output = field(repr=False)
    """The same for its standard error. pysandpool writes nothing into it."""
    exit_code: int | None
    """0 to 255; None if a signal killed the command."""
    signal: int | None = None
    """The number of the signal that killed the command, SIGKILL after a timeout; None if it exited."""
    timed_out: bool = False
    """True if the command ran longer than its timeout. The output up to then is kept, and all processes of the
    command are gone."""
    elapsed: float = 0.0
    """Seconds from the request to the end of the command."""
    stdout_truncated: bool = False
    """True if the command wrote more than `max_output_bytes`. The rest was read and dropped."""
    stderr_truncated: bool = False
    """The same for standard error."""
    oom_killed: bool = False
    """True if the memory limit, and nothing else, ended the command."""
    user_time: float = 0.0
    """Seconds of CPU time in user mode, of the command and the children that it has waited for."""
    system_time: float = 0.0
    """Seconds of CPU time in the kernel, of the same processes."""
    max_rss_bytes: int = 0
    """Bytes of peak resident memory of the largest of these processes; in a cgroup, of the whole sandbox."""
    cpu_time_exceeded: bool = False
    """True if the command and the children that it has waited for used `cpu_time` or more."""

    @property
    def returncode(self) -> int:
        """The exit code, or -N if signal N killed the command, as subprocess has it."""
        return -(self.signal or 0) if self.exit_code is None else self.exit_code

    @property
    def ok(self) -> bool:
        """Whether `check()` finds nothing wrong."""
        return self.exit_code == 0 and not (self.stdout_truncated or self.stderr_truncated or self.cpu_time_exceeded)

    @property
    def text(self) -> str:
        """`stdout` as text, whatever the command wrote: what is not UTF-8 is replaced by U+FFFD, and every line ends
        with "\\n"."""
        stdout: bytes | str = self.stdout
        if isinstance(stdout, str):
            return stdout
        return decode(stdout, REPLACING, self.stdout_truncated or self.signal is not None)

    def check(self) -> Self:
        """Returns this result if the exit code is 0, the output is complete and `cpu_time` was not used up.

        Raises:
            CommandFailedError: the command exited with another code, a signal killed it, output was dropped because of
                `max_output_bytes`, or `cpu_time` was used up. Look at `exit_code` instead if that does not matter.
        """
        if not self.ok:
            raise CommandFailedError(self)
        return self

    def __repr__(self) -> str:
        ending = f"exit_code={self.exit_code}" if self.signal is None else f"signal={self.signal}"
        notes = "".join(f" {name}" for name in ("timed_out", "oom_killed", "cpu_time_exceeded") if getattr(self, name))
        stdout: bytes | str = self.stdout
        unit = "chars" if isinstance(stdout, str) else "B"
        out = f"stdout={len(self.stdout)} {unit}" + (" (truncated)" if self.stdout_truncated else "")
        err = f"stderr={len(self.stderr)} {unit}" + (" (truncated)" if self.stderr_truncated else "")
        return f"<SandboxResult {ending}{notes} {out} {err} elapsed={self.elapsed:.6f}>"


def decoded(result: SandboxResult, coding: Coding) -> SandboxResult[str]:
    """The result with text in place of bytes. Raises UnicodeDecodeError if the coding is strict."""
    killed = result.signal is not None
    texts: Any = {
        "stdout": decode(result.stdout, coding, killed or result.stdout_truncated),
        "stderr": decode(result.stderr, coding, killed or result.stderr_truncated),
    }
    same: SandboxResult[Any] = result
    return dataclasses.replace(same, **texts)
