"""The exceptions that pysandpool defines.

All of them are a `SandpoolError`. Errors of the pool are a `PoolError`; errors of one sandbox or of its configuration
are a `SandboxError`. Their attributes hold the facts, and they can be pickled, so that they can be sent to another
process. As everywhere in Python, an argument of a wrong type raises `TypeError`, one with a wrong value `ValueError`.
"""

from __future__ import annotations

import errno as _errno
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pysandpool


def _rebuild(cls: type[SandpoolError], args: tuple[Any, ...], state: dict[str, Any]) -> SandpoolError:
    error = cls.__new__(cls)
    error.args = args
    error.__dict__.update(state)
    return error


class SandpoolError(Exception):
    """Base of all errors of this package."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.args, self.__dict__)


class PoolError(SandpoolError):
    """Base of the errors of a pool."""


class InvalidPoolConfigError(PoolError, ValueError):
    """A field of a `PoolConfig` has a value outside its range.

    Attributes:
        field: the name of the field.
        value: the value that was given.
        allowed: the range, in words.
        min_size, max_size: the values given for these two fields, which the ranges of others depend on.
    """

    def __init__(self, field: str, value: object, allowed: str, min_size: object, max_size: object) -> None:
        super().__init__(
            f"PoolConfig.{field} = {value!r} is not allowed; expected: {allowed} "
            f"(min_size={min_size!r}, max_size={max_size!r})"
        )
        self.field = field
        self.value = value
        self.allowed = allowed
        self.min_size = min_size
        self.max_size = max_size


class InvalidPoolConfigTypeError(InvalidPoolConfigError, TypeError):
    """The same for a value of a wrong type, so that `except TypeError` catches it too."""


class PoolStateError(PoolError):
    """The pool can no longer do this: it is closed, or it belongs to the parent of this process.

    Attributes:
        owner_pid: the pid of the process that opened the pool, if this process is a forked child of it; else None.
    """

    def __init__(self, message: str = "the pool is closed", owner_pid: int | None = None) -> None:
        super().__init__(message)
        self.owner_pid = owner_pid


class AcquireTimeoutError(PoolError, TimeoutError):
    """All `max_in_use` leases were in use, and none was released within `timeout` seconds.

    Attributes:
        timeout: the seconds that the call waited.
    """

    def __init__(self, message: str = "no lease became free in time", timeout: float | None = None) -> None:
        super().__init__(message)
        self.timeout = timeout


class SandboxError(SandpoolError):
    """Base of the errors of one sandbox. Raised itself if a command could not be started inside.

    Attributes:
        errno: the error number of the kernel, for example ENOENT at stage "cwd" for a missing working directory; None
            if the error has none.
        stage: the step that failed, for example "exec"; None if the error has none.
        hint: the command or setting that would fix it; empty if none is known.
    """

    errno: int | None = None
    stage: str | None = None
    hint: str = ""

    def __init__(self, message: str = "", errno: int | None = None, stage: str | None = None, hint: str = "") -> None:
        super().__init__(message + (f"; hint: {hint}" if hint else ""))
        if hint:
            self.hint = hint
        if errno is not None:
            self.errno = errno
        if stage is not None:
            self.stage = stage


class InvalidSandboxConfigError(SandboxError, ValueError):
    """A field of a `SandboxConfig` has a value outside its range.

    Attributes:
        field: the name of the field.
        value: the value that was given.
        allowed: the range, in words.
    """

    def __init__(self, field: str, value: object, allowed: str) -> None:
        # The fields of Bind, Workspace and Interpreter come with the name of their class.
        name = field if "." in field else f"SandboxConfig.{field}"
        super().__init__(f"{name} = {value!r} is not allowed; expected: {allowed}")
        self.field = field
        self.value = value
        self.allowed = allowed


class InvalidSandboxConfigTypeError(InvalidSandboxConfigError, TypeError):
    """The same for a value of a wrong type, so that `except TypeError` catches it too."""


def refuse_sandbox_field(field: str, value: object, allowed: str, wrong_type: bool) -> Exception:
    """The exception for a field of `SandboxConfig`, `Bind`, `Workspace` or `Interpreter`."""
    return (InvalidSandboxConfigTypeError if wrong_type else InvalidSandboxConfigError)(field, value, allowed)


class SandboxCreateError(SandboxError):
    """A sandbox could not be created.

    Attributes:
        stage: the step of the creation that failed, for example "user_namespace".
        errno: the error number of the kernel.
        detail: what the step was working on, such as a path; may be empty.
        hint: the command or setting that would fix it; empty if none is known.
        traceback: at stage "preload", what the interpreter has written: the traceback of the module or source that
            failed, behind what it had printed. The message ends with it. Else it is empty.
    """

    errno: int
    stage: str

    def __init__(self, stage: str, errno: int, hint: str = "", detail: str = "", traceback: str = "") -> None:
        message = f"could not create a sandbox: {stage}: {_describe(errno)}"
        message += f": {detail}" if detail else ""
        message += f"; hint: {hint}" if hint else ""
        super().__init__(message + (f"\n{traceback}" if traceback else ""), errno, stage)
        self.hint = hint
        self.detail = detail
        self.traceback = traceback


class SandboxReleasedError(SandboxError):
    """The lease was released, and its sandbox can no longer be used."""

    def __init__(self, message: str = "this sandbox was released") -> None:
        super().__init__(message)


class SandboxLostError(SandboxError):
    """The sandbox died while a command may have been running. The outcome of the command is unknown."""

    def __init__(self, message: str = "the sandbox died; the outcome of the command is unknown") -> None:
        super().__init__(message)


class CommandNotFoundError(SandboxError):
    """The command could not be executed inside the sandbox.

    Attributes:
        errno: ENOENT, EACCES, ENOEXEC, ENOTDIR or ELOOP.
        filename: the command as it was given.
        hint: what the host has in its place, and the field that would show it; empty if there is no answer. It names
            files of the host: keep it from tenants who must not know which ones exist.
    """

    errno: int

    def __init__(self, errno: int, filename: str, hint: str = "") -> None:
        super().__init__(f"cannot execute {filename!r} in the sandbox: {_describe(errno)}", errno, "exec", hint)
        self.filename = filename


class CommandFailedError(SandboxError):
    """`SandboxResult.check()` found that the command did not exit with code 0, or that it exceeded a limit.

    Attributes:
        result: the `SandboxResult`.
        returncode, stdout, stderr: those of the result; `output` is another name of `stdout`. The names are those of
            `subprocess.CalledProcessError`.
        cmd: the command, if the error comes from `check=True`; None if it comes from `check()`, as a result does not
            keep its command.
    """

    def __init__(self, result: pysandpool.SandboxResult[Any], cmd: Any = None) -> None:
        super().__init__(f"the command {_ending(result)}{_exceeded(result)}{_last_words(result.stderr)}")
        self.result = result
        self.cmd = cmd
        self.returncode: int = result.returncode
        self.stdout = self.output = result.stdout
        self.stderr = result.stderr


class CodeFailedError(SandboxError):
    """`CodeResult.check()` found that the code did not end well.

    Attributes:
        result: the `CodeResult`.
    """

    def __init__(self, result: pysandpool.CodeResult) -> None:
        ending = "left its session running" if result.exit_code is None and result.signal is None else _ending(result)
        error = result.error
        cause = f": {error.name}: {error.value}" if error is not None else ""
        cut = result.stdout_truncated or result.stderr_truncated
        incomplete = "" if result.claimed.complete and not cut else ", and not all that it reported was kept"
        # repr, so that control characters that hostile code has chosen do not reach a log or a terminal.
        super().__init__(f"the code {ending}{incomplete}{repr(cause[:400])[1:-1]}")
        self.result = result


class SessionEndedError(SandboxError):
    """The process of this code session has ended: by itself, by a timeout, or because it was killed or closed.

    The lease can still be used, and other sessions of it go on. `lease.session()` starts a new one.

    Attributes:
        exit_code: its exit code; None if a signal killed it, or if that is not known.
        signal: the signal that killed it; None if it exited, or if that is not known.
    """

    def __init__(
        self, message: str = "this session has ended", exit_code: int | None = None, signal: int | None = None
    ) -> None:
        super().__init__(message, hint="start another one with lease.session()")
        self.exit_code = exit_code
        self.signal = signal


class UnsupportedPlatformError(SandboxError):
    """This version has no sandbox backend for this operating system or processor."""


def _describe(errno: int) -> str:
    return f"{_errno.errorcode.get(errno, errno)} ({os.strerror(errno)})"


def _ending(result: pysandpool.SandboxResult[Any] | pysandpool.CodeResult) -> str:
    if result.timed_out:
        return f"timed out after {result.elapsed:.3f} s"
    if result.oom_killed:
        return "was killed because it exceeded the memory limit: raise memory_limit_mb, or let it use less"
    if result.signal is not None:
        return f"was killed by signal {result.signal}"
    return f"exited with {result.exit_code}"


def _exceeded(result: pysandpool.SandboxResult[Any]) -> str:
    cut = (("stdout", result.stdout_truncated), ("stderr", result.stderr_truncated))
    streams = " and ".join(name for name, truncated in cut if truncated)
    text = f", and wrote more than max_output_bytes to {streams}" if streams else ""
    if result.cpu_time_exceeded:
        text += f", and used {result.user_time + result.system_time:.3f} s of CPU time, which is not below its cpu_time"
    return text


def _last_words(stderr: bytes | str) -> str:
    # repr, so that control characters that a hostile command wrote do not reach a log or a terminal.
    last = stderr[-400:]
    tail = (last if isinstance(last, str) else last.decode("utf-8", "replace")).strip()
    return f": {tail!r}" if tail else ""
