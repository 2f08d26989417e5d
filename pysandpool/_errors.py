"""Every exception that pysandpool raises on its own account.

All of them are `SandpoolError`. Errors of the pool are `PoolError`, errors of one sandbox or of its
configuration are `SandboxError`. They keep their facts in attributes and survive `pickle`, so that they can
cross a process boundary. Wrong argument types are `TypeError`, wrong argument values of a call `ValueError`,
as everywhere in Python.
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
    """A `PoolConfig` that cannot be: `field` holds `value`, and `allowed` says what it may hold.

    `min_size` and `max_size` are always there, because most limits of a pool are limits between these two.
    """

    def __init__(self, field: str, value: object, allowed: str, min_size: object, max_size: object) -> None:
        super().__init__(
            f"PoolConfig.{field} = {value!r} is not allowed: {allowed} (min_size={min_size!r}, max_size={max_size!r})"
        )
        self.field = field
        self.value = value
        self.allowed = allowed
        self.min_size = min_size
        self.max_size = max_size


class InvalidPoolConfigTypeError(InvalidPoolConfigError, TypeError):
    """The same for a value of the wrong type, so that `except TypeError` sees it too."""


class PoolStateError(PoolError):
    """The pool cannot do this any more: it is closed, or it belongs to the parent of this process.

    `owner_pid` is the pid of the process that opened it, when that is what is wrong, else None.
    """

    def __init__(self, message: str = "the pool is closed", owner_pid: int | None = None) -> None:
        super().__init__(message)
        self.owner_pid = owner_pid


class AcquireTimeoutError(PoolError, TimeoutError):
    """`max_in_use` leases are out, and none came back within `timeout` seconds."""

    def __init__(self, message: str = "no lease became free in time", timeout: float | None = None) -> None:
        super().__init__(message)
        self.timeout = timeout


class SandboxError(SandpoolError):
    """Base of the errors of one sandbox; by itself: a command could not be started inside.

    `errno` is the kernel's (ENOENT at stage "cwd" for a missing working directory, E2BIG, ENOMEM, ...),
    `stage` the step that failed. Both are None where an error has no such address. `hint` is the command or
    setting that would fix it; empty where none is known.
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
    """A `SandboxConfig` that cannot be: `field` holds `value`, and `allowed` says what it may hold."""

    def __init__(self, field: str, value: object, allowed: str) -> None:
        super().__init__(f"SandboxConfig.{field} = {value!r} is not allowed: {allowed}")
        self.field = field
        self.value = value
        self.allowed = allowed


class InvalidSandboxConfigTypeError(InvalidSandboxConfigError, TypeError):
    """The same for a value of the wrong type, so that `except TypeError` sees it too."""


class SandboxCreateError(SandboxError):
    """A sandbox could not be created.

    `stage` is the step of its life that failed, `errno` the kernel's answer, `detail` what was being touched
    (a path, a name; may be empty), `hint` the command or setting that would fix it (may be empty).
    """

    errno: int
    stage: str

    def __init__(self, stage: str, errno: int, hint: str = "", detail: str = "") -> None:
        message = f"could not create a sandbox: {stage}: {_describe(errno)}"
        message += f": {detail}" if detail else ""
        super().__init__(message + (f"; hint: {hint}" if hint else ""), errno, stage)
        self.hint = hint
        self.detail = detail


class SandboxReleasedError(SandboxError):
    """The lease is over: it was released, and its sandbox belongs to nobody any more."""

    def __init__(self, message: str = "this sandbox was released") -> None:
        super().__init__(message)


class SandboxLostError(SandboxError):
    """The sandbox died while the command may have been running. Its outcome is unknown."""

    def __init__(self, message: str = "the sandbox died; the outcome of the command is unknown") -> None:
        super().__init__(message)


class CommandNotFoundError(SandboxError):
    """The command could not be executed inside: ENOENT, EACCES, ENOEXEC, ENOTDIR or ELOOP in `errno`.

    `filename` is the command as it was given.
    """

    errno: int

    def __init__(self, errno: int, filename: str) -> None:
        super().__init__(f"cannot execute {filename!r} in the sandbox: {_describe(errno)}", errno, "exec")
        self.filename = filename


class CommandFailedError(SandboxError):
    """`SandboxResult.check()`: the command ended with anything but exit code 0. `result` is all that it left."""

    def __init__(self, result: pysandpool.SandboxResult) -> None:
        super().__init__(f"the command {_ending(result)}{_last_words(result.stderr)}")
        self.result = result


class UnsupportedPlatformError(SandboxError):
    """This operating system or processor has no sandbox backend in this version."""


def _describe(errno: int) -> str:
    return f"{_errno.errorcode.get(errno, errno)} ({os.strerror(errno)})"


def _ending(result: pysandpool.SandboxResult) -> str:
    if result.timed_out:
        return f"timed out after {result.elapsed:.3f} s"
    if result.signal is not None:
        return f"was killed by signal {result.signal}"
    return f"exited with {result.exit_code}"


def _last_words(stderr: bytes) -> str:
    # repr: what a hostile command wrote must not reach a log or a terminal as control characters.
    tail = stderr[-400:].decode("utf-8", "replace").strip()
    return f": {tail!r}" if tail else ""
